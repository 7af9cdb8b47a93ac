/**
 * What an adapter consists of, before there is one: the method itself is attached on the planner's device, which holds no values, so that names and
 * shapes are those that training makes. The rule to keep: no second list of them exists.
 */
import type { AdapterConfig, MethodConfig } from "../protocol/runConfig.ts";
import { openMetaDevice } from "./devices/meta.ts";
import { attachAdapter } from "./methods/adapters.ts";
import type { ModelConfig } from "./model/config.ts";
import { allocateTensors } from "./model/tensors.ts";

/** The configuration of a method whose parameters stand beside the weights; null for SMT and full fine-tuning. */
export function adapterOf(method: MethodConfig): AdapterConfig | null {
  return method.name === "smt" || method.name === "full" ? null : method;
}

/** Shapes of all parameters by name, in the method's order. Throws UserError as attaching does. */
export function adapterShapes(config: AdapterConfig, model: ModelConfig): Map<string, readonly number[]> {
  const device = openMetaDevice({ workspaceBytes: 0, description: "shapes of an adapter" });
  const { parameters } = attachAdapter(device, allocateTensors(device, model, "f32"), config, null);
  return new Map(parameters.map(({ name, value }) => [name, value.shape]));
}
