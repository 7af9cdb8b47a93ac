/**
 * Names what a file is when it is no safetensors file, so that the error can say what to do. Looked at only after a file was refused:
 * the first bytes of a valid safetensors file are a length and could spell any of these.
 * Source: the magic numbers in the formats' own documents (git-lfs spec, PKZIP appnote, pickle protocol, GGUF spec, HDF5, NumPy, gzip, tar).
 */

export interface ForeignFormat {
  /** Last part of the error code. */
  code: string;
  /** Completes "it is …". */
  what: string;
  action: string;
}

const useSafetensors = "Use a folder with model.safetensors, or convert the file with save_pretrained(safe_serialization=True).";

/** What the file whose first bytes (512 are enough) are given is, or null. */
export function recogniseForeignFormat(head: Uint8Array): ForeignFormat | null {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const text = bytes.toString("latin1");
  if (text.startsWith("version https://git-lfs.github.com/spec/")) {
    const size = /\nsize (\d+)/.exec(text)?.[1];
    return {
      code: "LfsPointer",
      what: `a Git LFS pointer, not the model itself${size ? ` (which has ${size} bytes)` : ""}`,
      action: "Run `git lfs install` and `git lfs pull` in the model's folder, or download the file again.",
    };
  }
  if (text.startsWith("PK\x03\x04") || text.startsWith("PK\x05\x06")) {
    return {
      code: "Pickle",
      what: "a zip archive, as PyTorch's .pt and .bin checkpoints are; those hold pickles, which can run code",
      action: useSafetensors,
    };
  }
  if (bytes.length > 2 && bytes[0] === 0x80 && bytes[1] >= 2 && bytes[1] <= 5) {
    return { code: "Pickle", what: "a Python pickle, as old .pt and .bin checkpoints are; loading it could run code", action: useSafetensors };
  }
  if (text.startsWith("GGUF") || text.startsWith("ggml") || text.startsWith("lmgg")) {
    return { code: "Gguf", what: "a GGUF file, llama.cpp's format", action: "Use the Hugging Face folder the GGUF file was made from." };
  }
  if (/^\s*<(!doctype|html|\?xml|head)/i.test(text)) {
    return { code: "Html", what: "a web page, which a download that needs a login leaves behind", action: "Download the file again, logged in." };
  }
  if (text.startsWith("\x89HDF")) return { code: "Hdf5", what: "an HDF5 file, as Keras models are", action: useSafetensors };
  if (text.startsWith("\x93NUMPY")) return { code: "Numpy", what: "a NumPy array", action: useSafetensors };
  if (text.startsWith("\x1f\x8b")) return { code: "Archive", what: "a gzip archive", action: "Unpack it first." };
  if (text.slice(257, 262) === "ustar") return { code: "Archive", what: "a tar archive", action: "Unpack it first." };
  if (/^\s*[{[]/.test(text)) return { code: "Json", what: "a JSON text", action: "Give the safetensors file itself." };
  return null;
}
