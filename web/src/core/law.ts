/** Settings of the law (section 5.1). */
export interface LawSettings {
  readonly budget: number;
  readonly start: number;
  readonly grow: number;
  readonly shrink: number;
  readonly gain: number;
  readonly damping: number;
  readonly lowest: number;
  readonly highest: number;
  readonly patience: number;
  readonly improvement: number;
  readonly ramp: number;
  readonly floor: number;
  readonly bisect: number;
  readonly fit: number;
  readonly accept_start: number;
}

export const LAW_DEFAULTS: LawSettings = {
  budget: Infinity, start: 1, grow: 1.03, shrink: 0.95, gain: 0.08, damping: 8, lowest: 1e-6, highest: 1e9,
  patience: 0, improvement: 0.01, ramp: 0.1, floor: 0.05, bisect: 0, fit: 0, accept_start: 0,
};

/** A step this little above the budget still counts as within. */
const BUDGET_SLACK = 1.1;
/** No cosine exceeds 1: a surrogate with this limit or a higher one is not in use. */
const UNUSED = 1;
const SHORTEST_WAY = 0.05;

/** What the next step uses, and what was best so far among clean steps (section 5.2). Vectors have an entry per surrogate. */
export interface LawState {
  readonly penaltyWeight: number;
  readonly weights: Float32Array;
  readonly unit: Float32Array;
  readonly aim: number;
  readonly error: number;
  readonly passed: boolean;
  readonly bestPenalty: number;
  readonly bestLack: number;
  readonly bestWithin: boolean;
  readonly anchor: number;
  readonly waited: number;
}

/** `keep`: this step is the best so far. `stop`: patience is used up. */
export interface LawVerdict {
  readonly keep: boolean;
  readonly passes: boolean;
  readonly stop: boolean;
}

/** The state before the first step; `limit` and `origin` [K + J]. */
export function startLaw(settings: LawSettings, limit: Float32Array, origin: Float32Array): LawState {
  const unit = limit.map((value, k) => Math.max(Math.fround(origin[k] - value), SHORTEST_WAY));
  return {
    penaltyWeight: settings.start, weights: surrogateWeights(settings, unit, limit, unit), unit, aim: settings.budget, error: -1,
    passed: false, bestPenalty: Infinity, bestLack: Infinity, bestWithin: false, anchor: Infinity, waited: 0,
  };
}

/** The next state after any step: the penalty weight moves so that the penalty comes to the aim (section 5.3). */
export function steer(settings: LawSettings, state: LawState, penalty: number): LawState {
  const error = clip(Math.log(Math.max(penalty / state.aim, 1e-30)), -1, 1);
  const change = settings.gain * (error + settings.damping * (error - state.error));
  return { ...state, penaltyWeight: clip(state.penaltyWeight * Math.exp(change), settings.lowest, settings.highest), error };
}

/** The next state after a clean step, and what to make of the step (section 5.3). */
export function judge(
  settings: LawSettings, state: LawState, similarity: Float32Array, limit: Float32Array, penalty: number,
): [LawState, LawVerdict] {
  const excess = similarity.map((value, k) => value - limit[k]);
  const relative = relativeExcess(similarity, limit, state.unit);
  const worst = Math.max(-1, ...relative);
  const lack = relative.reduce((sum, value) => sum + Math.max(value, 0), 0);
  const within = penalty <= settings.budget * BUDGET_SLACK;
  const passes = worst <= 0 && within;
  // A step within the budget beats any that is not; of equals, the one that misses less.
  const nearer = !state.passed && (within === state.bestWithin ? lack < state.bestLack : within);
  const keep = passes ? penalty < state.bestPenalty : nearer;
  const better = passes && penalty < state.anchor * (1 - settings.improvement);
  const passed = state.passed || passes;
  const waited = better || !passed ? 0 : state.waited + 1;
  // Far from the limit by the whole factor, close to it hardly at all: no ringing around the limit.
  const share = Math.min(1, Math.abs(worst) / settings.ramp);
  const aim = worst <= 0 ? Math.min(state.aim, penalty) * settings.shrink ** share : state.aim * settings.grow ** share;
  const next: LawState = {
    ...state,
    aim: Math.min(aim, settings.budget),
    weights: surrogateWeights(settings, excess, limit, state.unit),
    passed,
    bestPenalty: passes && keep ? penalty : state.bestPenalty,
    bestLack: keep ? lack : state.bestLack,
    bestWithin: keep ? within : state.bestWithin,
    anchor: better ? penalty : state.anchor,
    waited,
  };
  return [next, { keep, passes, stop: settings.patience > 0 && waited >= settings.patience }];
}

/** Largest similarity minus limit of those in use, in units of the way there; -1 at least. */
export function worstExcess(similarity: Float32Array, limit: Float32Array, unit: Float32Array): number {
  return Math.max(-1, ...relativeExcess(similarity, limit, unit));
}

/** The factor of the variable at which a penalty that grows with its square meets the budget (section 5.5). */
export function fitting(settings: LawSettings, penalty: number): number {
  if (!Number.isFinite(settings.budget) || penalty <= 0) return 1;
  return clip(Math.sqrt(settings.budget / penalty), 0.5, 2);
}

function relativeExcess(similarity: Float32Array, limit: Float32Array, unit: Float32Array): number[] {
  const inUse = Array.from(limit.keys()).filter((k) => limit[k] < UNUSED);
  return inUse.map((k) => Math.fround(Math.fround(similarity[k] - limit[k]) / unit[k]));
}

/** Weight per surrogate: 1 / unit while it matches, falling to `floor` of that past the limit, 0 where it is not in use. */
function surrogateWeights(settings: LawSettings, excess: Float32Array, limit: Float32Array, unit: Float32Array): Float32Array {
  return excess.map((value, k) => {
    const ramp = clip(value / unit[k] / settings.ramp + 0.5, settings.floor, 1);
    return limit[k] < UNUSED ? ramp / unit[k] : 0;
  });
}

function clip(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
