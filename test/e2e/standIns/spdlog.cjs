/**
 * Stands in for the native module @vscode/spdlog in the VS Code server of the end-to-end tests, which is installed without compiling anything. Without it
 * the workbench's log channels stay empty. Copied over the module's index.js; writes each line at once, and never rotates.
 */
const { appendFileSync, mkdirSync } = require("node:fs");
const path = require("node:path");

const names = ["trace", "debug", "info", "warning", "error", "critical"];
const methods = ["trace", "debug", "info", "warn", "error", "critical"];

class Logger {
  #file;
  #level = 2;
  #plain = false;
  constructor(_type, _name, file) {
    this.#file = file;
    mkdirSync(path.dirname(file), { recursive: true });
    this.#append("");
  }
  getLevel() {
    return this.#level;
  }
  setLevel(level) {
    this.#level = level;
  }
  setPattern() {
    this.#plain = false;
  }
  /** The workbench then hands over whole lines with their own line ends. */
  clearFormatters() {
    this.#plain = true;
  }
  flush() {}
  drop() {}
  write(level, message) {
    if (level < this.#level) return;
    const time = new Date().toISOString().replace("T", " ").replace("Z", "");
    this.#append(this.#plain ? message : `${time} [${names[level]}] ${message}\n`);
  }
  #append(text) {
    try {
      appendFileSync(this.#file, text);
    } catch {
      // The folder of a session that is over may be gone.
    }
  }
}
methods.forEach((method, level) => {
  Logger.prototype[method] = function (message) {
    this.write(level, message);
  };
});

exports.version = 0;
exports.setLevel = () => {};
exports.setFlushOn = () => {};
exports.Logger = Logger;
exports.createRotatingLogger = async (name, file) => new Logger("rotating", name, file);
exports.createAsyncRotatingLogger = async (name, file) => new Logger("rotating_async", name, file);
