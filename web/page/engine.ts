export { openEngine } from "../test/stand-in.ts";
