/**
 * Tells from the bytes of a native library which system and processor it is for, and what of Node and of the system it needs. Reads headers only; what a
 * file's name says counts for nothing.
 */
export interface NativeFormat {
  /** As in `${process.platform}-${process.arch}`. */
  platform: string;
  /** Mach-O only: the system runs it on Apple's own processors only with a signature. */
  signed: boolean;
  /** PE only: the libraries it imports, as they are named. */
  imports: string[];
  /** ELF only: the newest glibc it asks for, 0 for none. */
  glibcMinor: number;
}

const elfMachines: Record<number, string> = { 62: "x64", 183: "arm64" };
const machoMachines: Record<number, string> = { 16777223: "x64", 16777228: "arm64" };
const peMachines: Record<number, string> = { 34404: "x64", 43620: "arm64" };

/** Of a library for several processors, which Apple's systems have, each; else the one. */
export function nativeFormats(bytes: Buffer): NativeFormat[] {
  if (bytes.readUInt32BE(0) !== 0xcafebabe) return [nativeFormat(bytes)];
  return Array.from({ length: bytes.readUInt32BE(4) }, (_, i) => {
    const [start, length] = [bytes.readUInt32BE(16 + 20 * i), bytes.readUInt32BE(20 + 20 * i)];
    return nativeFormat(bytes.subarray(start, start + length));
  });
}

/** Throws when the bytes are no 64-bit shared library of a known kind. */
export function nativeFormat(bytes: Buffer): NativeFormat {
  const none = { signed: false, imports: [], glibcMinor: 0 };
  if (bytes.readUInt32BE(0) === 0x7f454c46) return { ...none, platform: `linux-${elfMachine(bytes)}`, glibcMinor: newestGlibc(bytes) };
  if (bytes.readUInt32LE(0) === 0xfeedfacf) return { ...none, ...macho(bytes) };
  if (bytes.readUInt16LE(0) === 0x5a4d) return { ...none, ...portableExecutable(bytes) };
  throw new Error(`no native library: it begins with ${bytes.subarray(0, 4).toString("hex")}`);
}

function elfMachine(bytes: Buffer): string {
  const [wordSize, byteOrder, type] = [bytes[4], bytes[5], bytes.readUInt16LE(16)];
  if (wordSize !== 2 || byteOrder !== 1 || type !== 3) throw new Error("no 64-bit little-endian shared object");
  return known(elfMachines, bytes.readUInt16LE(18));
}

/** Versions of glibc stand as text in the file's string table. */
function newestGlibc(bytes: Buffer): number {
  const minors = [...bytes.toString("latin1").matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor));
  return Math.max(0, ...minors);
}

function macho(bytes: Buffer): Pick<NativeFormat, "platform" | "signed"> {
  const type = bytes.readUInt32LE(12);
  if (type !== 6 && type !== 8) throw new Error(`a Mach-O file of type ${type} is no library`);
  let signed = false;
  for (let left = bytes.readUInt32LE(16), at = 32; left > 0; left--, at += bytes.readUInt32LE(at + 4))
    if (bytes.readUInt32LE(at) === 0x1d) signed = true;
  return { platform: `darwin-${known(machoMachines, bytes.readUInt32LE(4))}`, signed };
}

function portableExecutable(bytes: Buffer): Pick<NativeFormat, "platform" | "imports"> {
  const header = bytes.readUInt32LE(0x3c);
  if (bytes.readUInt32BE(header) !== 0x50450000) throw new Error("no PE header");
  if ((bytes.readUInt16LE(header + 22) & 0x2000) === 0) throw new Error("no DLL");
  const platform = `win32-${known(peMachines, bytes.readUInt16LE(header + 4))}`;
  const optional = header + 24;
  const sections = optional + bytes.readUInt16LE(header + 20);
  const fileOffset = (address: number) => {
    for (let index = 0; index < bytes.readUInt16LE(header + 6); index++) {
      const at = sections + index * 40;
      const [size, start, raw] = [8, 12, 20].map((offset) => bytes.readUInt32LE(at + offset));
      if (address >= start && address < start + size) return address - start + raw;
    }
    throw new Error(`address ${address} lies in no section`);
  };
  const imports: string[] = [];
  for (let at = fileOffset(bytes.readUInt32LE(optional + 120)); bytes.readUInt32LE(at + 12) !== 0; at += 20) {
    const name = fileOffset(bytes.readUInt32LE(at + 12));
    imports.push(bytes.toString("latin1", name, bytes.indexOf(0, name)));
  }
  return { platform, imports };
}

function known(machines: Record<number, string>, code: number): string {
  if (!(code in machines)) throw new Error(`unknown processor ${code}`);
  return machines[code];
}
