/** The classes device memory is counted by, shared by the ledger, the events and the panel. */
export const memoryClasses = ["weights", "trainable", "gradients", "optimizer", "activations", "workspace"] as const;

/** What the bytes of a tensor serve. */
export type MemoryClass = (typeof memoryClasses)[number];

export type BytesByClass = Record<MemoryClass, number>;

/** Whether a device, told by its description, computes on a graphics card. TensorFlow computes on the processor too, and says where. */
export function computesOnCard(device: string): boolean {
  return /^webgpu\b/.test(device) || /^tensorflow\b.*on the graphics card/.test(device);
}
