/** The shortest Huffman code for what is to be written (ITU-T T.81, K.2). */

export interface EncoderTable {
  /** Codes of each length 1 to 16, and the symbols in the order of their codes: as a DHT segment holds them. */
  readonly counts: Uint8Array;
  readonly symbols: Uint8Array;
  readonly code: Uint16Array;
  readonly length: Uint8Array;
}

/** For symbols 0 to 255 that occur so often. No code is all ones, and none is longer than 16 bits. */
export function encoderTable(occurrences: Uint32Array): EncoderTable {
  const lengths = limited(codeLengths(occurrences));
  const symbols = [...occurrences.keys()].filter((symbol) => occurrences[symbol] > 0);
  symbols.sort((one, other) => occurrences[other] - occurrences[one] || one - other);
  const [code, length] = [new Uint16Array(256), new Uint8Array(256)];
  let [next, place] = [0, 0];
  for (let bits = 1; bits <= 16; bits++, next <<= 1) {
    for (let i = 0; i < lengths[bits]; i++, next++, place++) {
      code[symbols[place]] = next;
      length[symbols[place]] = bits;
    }
  }
  return { counts: Uint8Array.from(lengths.slice(1, 17)), symbols: Uint8Array.from(symbols), code, length };
}

/** How many codes there are of each length. A further symbol, the rarest, takes the code of all ones. */
function codeLengths(occurrences: Uint32Array): number[] {
  interface Tree { readonly weight: number; readonly depths: readonly number[] }
  let trees: Tree[] = [{ weight: 1, depths: [0] }];
  for (const count of occurrences) if (count > 0) trees.push({ weight: count + 1, depths: [0] });
  while (trees.length > 1) {
    trees = trees.sort((one, other) => other.weight - one.weight);
    const [one, other] = [trees.pop()!, trees.pop()!];
    trees.push({ weight: one.weight + other.weight, depths: [...one.depths, ...other.depths].map((depth) => depth + 1) });
  }
  const lengths: number[] = [];
  for (const depth of trees[0].depths) lengths[depth] = (lengths[depth] ?? 0) + 1;
  return Array.from({ length: Math.max(lengths.length, 18) }, (_, i) => lengths[i] ?? 0);
}

/** At most 16 bits, by T.81's figure K.3, and without the code of all ones. */
function limited(lengths: number[]): number[] {
  for (let long = lengths.length - 1; long > 16; long--) {
    while (lengths[long] > 0) {
      let short = long - 2;
      while (lengths[short] === 0) short--;
      lengths[long] -= 2;
      lengths[long - 1] += 1;
      lengths[short + 1] += 2;
      lengths[short] -= 1;
    }
  }
  let longest = 16;
  while (longest > 0 && lengths[longest] === 0) longest--;
  lengths[longest] -= 1;
  return lengths;
}
