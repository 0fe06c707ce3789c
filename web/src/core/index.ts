/** The engine floor: bundles, runtimes, recipes, conformance. What runs in browsers as in Node; node.ts has what only Node has. */
export { openBundle, type Bundle, type Facts, type LoadOptions, type Recogniser } from "./bundle.ts";
export { browserCache, CACHE_NAME, type FileCache } from "./cache.ts";
export type { Engine } from "./engine.ts";
export { RecipeError } from "./errors.ts";
export { checkGolden } from "./golden.ts";
export { httpSource } from "./http_source.ts";
export type { Manifest } from "./manifest.ts";
export type { MethodPlan, Region, StrengthPlan } from "./method.ts";
export { readNpy } from "./npy.ts";
export { faceSeed } from "./philox.ts";
export { runRecipe, type Joined, type Row, type RunOptions, type RunResult, type Step } from "./recipe.ts";
export { parseRecipe, stepStage, type Recipe } from "./recipe_schema.ts";
export { insideNames, searchFace, type SearchRequest, type SearchResult } from "./search.ts";
export { unit, type Float } from "./tensors.ts";
export { webRuntime, type WebRuntimeOptions } from "./web_runtime.ts";
export { tracesApart, verifyBundle, type Compared, type PhotoFinding, type Verification, type VerifyOptions } from "./conformance.ts";
export { cosine, embed } from "./embed.ts";
