/** The product of tiles that other ops' kernels are made of; matmul.wgsl.ts has it. */
export { type TiledProduct, tiledProduct, tileGroups } from "./matmul.wgsl.ts";
