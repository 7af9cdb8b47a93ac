/** The one place that knows every adapter method: from a run file's `method:` to the method itself. What each computes stands in its own file. */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { Device } from "../devices/device.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LlamaTensors } from "../model/tensors.ts";
import { DoRA } from "./dora.ts";
import { LoRA } from "./lora.ts";
import { LoRS } from "./lors.ts";
import type { AdapterMethod, Linear } from "./method.ts";
import { linearsOf } from "./smt/scoring.ts";
import { SPP } from "./spp.ts";
import { SQFT } from "./sqft.ts";
import { adapterTargets, matricesOf, trainedParameters } from "./targets.ts";

/**
 * Attaches the adapter a run file asks for to the targets' linear maps, and initialises it, seeded by tensor name; only LoRS' `gradientSvd` still
 * wants initialiseLors, and has a random B until then. With `seed` null, for the planner, no random number is drawn. Whoever writes parameter values
 * afterwards calls `afterUpdate`. Throws UserError as adapterTargets does.
 */
export function attachAdapter(device: Device, tensors: LlamaTensors, config: AdapterConfig, seed: number | null): AdapterMethod {
  return attachToLinears(device, adapterTargets(config, linearsOf(tensors)), config, seed);
}

/** The same to these maps, whatever the targets are. */
export function attachToLinears(device: Device, linears: Linear[], config: AdapterConfig, seed: number | null): AdapterMethod {
  switch (config.name) {
    case "lors":
      return new LoRS(device, linears, config, seed);
    case "lora":
      return new LoRA(device, linears, config, seed);
    case "dora":
      return new DoRA(device, linears, config, seed);
    case "spp":
      return new SPP(device, linears, config, seed);
    case "sqft":
      return new SQFT(device, linears, config, seed);
  }
}

/** What {@link attachAdapter} would refuse, from shapes alone, before weights are there. */
export function checkAdapter(config: AdapterConfig, model: ModelConfig): void {
  adapterTargets(config, matricesOf(model));
}

/** Trained parameters in all. */
export function adapterParameters(config: AdapterConfig, model: ModelConfig): number {
  return trainedParameters(config, model).trainableParameters;
}
