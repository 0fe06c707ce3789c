/** Of the package, as the mark and the results say it. */
export const VERSION = "0.1.0";
