import { RecipeError } from "./errors.ts";
import { norm, type Float } from "./tensors.ts";

/** One update: the next value of the variable, a new array. State is inside, moments are float32 (section 5.6). */
export type Optimiser = (variable: Float, gradient: Float) => Float;
type Update = (variable: Float32Array, gradient: Float32Array, rate: number) => Float32Array;

/** Settings of a stage's optimiser: `name`, `learning_rate`, options of its own, and `anneal`. */
export type OptimiserSettings = Readonly<Record<string, unknown>>;

const OPTIONS: Record<string, { readonly options: readonly string[]; readonly make: (settings: any) => Update }> = {
  adamw: { options: ["betas", "eps", "weight_decay"], make: adamw },
  sign_momentum: { options: ["decay", "norm"], make: signMomentum },
  gradient_descent: { options: [], make: () => (x, g, rate) => x.map((value, i) => value - Math.fround(rate) * g[i]) },
};

/** The optimiser of a descent of `steps`; raises `RecipeError` for a name, an option or a number that is wrong. */
export function makeOptimiser(settings: OptimiserSettings, steps: number): Optimiser {
  const known = OPTIONS[String(settings.name)];
  if (!known) throw new RecipeError(`there is no optimiser ${JSON.stringify(settings.name)}; choose one of: ${Object.keys(OPTIONS).join(", ")}`);
  const unknown = Object.keys(settings).find((key) => !["name", "learning_rate", "anneal", ...known.options].includes(key));
  if (unknown) {
    const options = ["learning_rate", "anneal", ...known.options].join(", ");
    throw new RecipeError(`optimiser '${settings.name}' has no option '${unknown}'; it has: ${options}`);
  }
  const first = number("learning_rate", settings.learning_rate, (value) => value > 0);
  const part = settings.anneal === undefined ? 1 : number("anneal", settings.anneal, fraction);
  const update = known.make(settings);
  let done = 0;
  return (variable, gradient) => {
    const rate = part * first + ((first - part * first) * (1 + Math.cos((Math.PI * Math.min(done++, steps)) / steps))) / 2;
    return { data: update(variable.data, gradient.data, rate), shape: variable.shape };
  };
}

/** Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2, with the roundings of the reference: float32 moments, the rest in double. */
function adamw(settings: { betas?: unknown; eps?: unknown; weight_decay?: unknown }): Update {
  const [b1, b2] = Array.isArray(settings.betas) ? settings.betas.map((beta) => number("betas", beta, fraction)) : [0.9, 0.999];
  const eps = number("eps", settings.eps ?? 1e-8, notNegative);
  const decay = number("weight_decay", settings.weight_decay ?? 0, notNegative);
  const f = Math.fround;
  let first: Float32Array, second: Float32Array, n = 0;
  return (x, g, rate) => {
    first ??= new Float32Array(x.length);
    second ??= new Float32Array(x.length);
    n++;
    const scale = rate / (1 - b1 ** n), root = Math.sqrt(1 - b2 ** n), kept = f(1 - rate * decay);
    const next = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) {
      first[i] = f(f(b1) * first[i]) + f(f(1 - b1) * g[i]);
      second[i] = f(f(b2) * second[i]) + f(f(1 - b2) * f(g[i] * g[i]));
      next[i] = f(x[i] * kept) - scale * (first[i] / (f(Math.sqrt(second[i])) / root + eps));
    }
    return next;
  };
}

/** MI-FGSM: Dong et al. 2018, arXiv 1710.06081, algorithm 1. */
function signMomentum(settings: { decay?: unknown; norm?: unknown }): Update {
  const decay = Math.fround(number("decay", settings.decay ?? 1, notNegative));
  const order = settings.norm ?? "l1";
  if (order !== "l1" && order !== "l2") throw new RecipeError(`optimiser option norm is ${JSON.stringify(order)}; give 'l1' or 'l2'`);
  let momentum: Float32Array | undefined;
  return (x, g, rate) => {
    const length = order === "l1" ? g.reduce((sum, value) => sum + Math.abs(value), 0) : norm(g);
    const direction = g.map((value) => (length > 0 ? value / length : 0));
    momentum = momentum ? momentum.map((value, i) => Math.fround(decay * value) + direction[i]) : direction;
    return x.map((value, i) => value - Math.fround(rate) * Math.sign(momentum![i]));
  };
}

function number(name: string, value: unknown, fits: (value: number) => boolean): number {
  if (typeof value !== "number" || !fits(value)) throw new RecipeError(`optimiser option ${name} is ${JSON.stringify(value)}, which is out of its range`);
  return value;
}

const fraction = (value: number) => value >= 0 && value < 1;
const notNegative = (value: number) => value >= 0;
