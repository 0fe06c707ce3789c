/** What only Node has: bundles in a folder, and ONNX Runtime's own build. */
export { folderSource } from "./folder_source.ts";
export { nodeRuntime } from "./node_runtime.ts";
