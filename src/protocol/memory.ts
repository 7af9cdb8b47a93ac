/** The classes device memory is counted by, shared by the ledger, the events and the panel. */
export const memoryClasses = ["weights", "trainable", "gradients", "optimizer", "activations", "workspace"] as const;

/** What the bytes of a tensor serve. */
export type MemoryClass = (typeof memoryClasses)[number];

export type BytesByClass = Record<MemoryClass, number>;
