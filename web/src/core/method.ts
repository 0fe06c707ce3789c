import { list, number, object, only, pair, share, text, type Json } from "./checks.ts";
import { RecipeError } from "./errors.ts";
import type { Strength } from "../types.ts";

/** How far to go, in spreads below each threshold, and how much change to spend on it. */
export interface StrengthPlan {
  readonly margin: number;
  readonly budget: number;
}

/** Where the method may change the crop (section 7.4); `spared`: x, y, width, height, share. */
export interface Region {
  readonly centre: readonly [number, number];
  readonly radii: readonly [number, number];
  readonly feather: number;
  readonly spared: readonly (readonly number[])[];
}

/** What a recipe says of itself as a method (section 3.6). It is for the caller, not for the interpreter. */
export interface MethodPlan {
  readonly description: string;
  readonly strengths: Readonly<Partial<Record<Strength, StrengthPlan>>>;
  /** Array name to share of the attempt's budget. */
  readonly budgets: Readonly<Record<string, number>>;
  /** Shares of the budget that each attempt may spend; empty where the recipe states none. */
  readonly attempts: readonly number[];
  readonly region: Region;
  readonly beyond: string;
  readonly undoes: number;
}

/** Fields of a recipe that belong to the method. */
export const METHOD_FIELDS = ["description", "order", "strengths", "budgets", "attempts", "region", "beyond", "undoes", "bundle"];
const STRENGTHS: readonly Strength[] = ["low", "medium", "high"];

/** The method's part of a recipe; raises `RecipeError` saying which field is wrong. */
export function parseMethod(document: Json): MethodPlan {
  const budgets = Object.entries(object(document.budgets ?? {}, "recipe, budgets"));
  return {
    description: document.description === undefined ? "" : text(document.description, "recipe, description"),
    strengths: document.strengths === undefined ? {} : strengths(object(document.strengths, "recipe, strengths")),
    budgets: Object.fromEntries(budgets.map(([name, value]) => [name, share(value, `recipe, budgets, ${name}`)])),
    attempts: document.attempts === undefined ? [] : list(document.attempts, "recipe, attempts").map((value) => share(value, "recipe, attempts")),
    region: region(object(document.region ?? {}, "recipe, region")),
    beyond: document.beyond === undefined ? "" : text(document.beyond, "recipe, beyond"),
    undoes: document.undoes === undefined ? Infinity : number(document.undoes, "recipe, undoes"),
  };
}

function strengths(stated: Json): MethodPlan["strengths"] {
  only(stated, STRENGTHS, "recipe, strengths");
  return Object.fromEntries(STRENGTHS.map((name) => {
    const where = `recipe, strengths, ${name}`;
    const plan = object(stated[name], where);
    only(plan, ["margin", "budget"], where);
    const budget = number(plan.budget, `${where}, budget`);
    if (!(budget > 0)) throw new RecipeError(`${where}, budget: expected a number above 0, found ${budget}`);
    return [name, { margin: number(plan.margin, `${where}, margin`), budget }];
  }));
}

function region(stated: Json): Region {
  const where = "recipe, region";
  only(stated, ["centre", "radii", "feather", "spared"], where);
  const spots = stated.spared === undefined ? [] : (stated.spared as unknown[]);
  if (!Array.isArray(spots)) throw new RecipeError(`${where}, spared: expected a list`);
  return {
    centre: stated.centre === undefined ? [128, 146] : pair(stated.centre, `${where}, centre`),
    radii: stated.radii === undefined ? [88, 106] : pair(stated.radii, `${where}, radii`),
    feather: stated.feather === undefined ? 0.25 : share(stated.feather, `${where}, feather`),
    spared: spots.map((spot) => list(spot, `${where}, spared`).map((value) => number(value, `${where}, spared`))),
  };
}
