import { RecipeError } from "./errors.ts";
import { fixedShape, type Engine } from "./engine.ts";
import { floats, norm, zeros, type Float } from "./tensors.ts";

/** The embedding [E] that a recogniser finds of a canonical crop [1, 3, 256, 256] (section 8.1). */
export async function embed(engine: Engine, crop: Float): Promise<Float32Array> {
  const reference = zeros(fixedShape(engine.manifest, "reference"));
  reference.data[0] = 1;
  const { embedding } = await engine.run({ image: crop, reference }, ["embedding"]);
  return floats(embedding, "embedding", (said) => new RecipeError(`engine '${engine.name}': ${said}`)).data;
}

/** Cosine of two embeddings (section 8.1). */
export function cosine(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, index) => sum + value * b[index], 0) / Math.max(norm(a) * norm(b), 1e-12);
}
