import { median } from './statistics.ts';

/** How long and how often a comparison is run. */
export interface Effort {
  /** Runs of each side. */
  pairs: number;
  /** Load before the figure is taken, so that compilers and caches have settled. */
  warmUpMs: number;
  /** Load while the figure is taken. */
  measureMs: number;
}

/** Measures one side once, in processes of its own that are gone when it settles. */
export type Measurement = (effort: Effort) => Promise<number>;

/** One row: the same work done by us and by a peer. Less is better in every unit. */
export interface Comparison {
  row: string;
  peer: string;
  unit: string;
  /** The largest ratio ours / theirs that passes; null when the row is only reported. */
  limit: number | null;
  ours: Measurement;
  /** @throws {PeerNotFoundError} when the peer is not on this machine. */
  theirs: Measurement;
}

/** A module in `suites/` exports one of these as `suite`; its file name is the name of the suite. */
export interface Suite {
  /** One sentence for the heading. */
  title: string;
  comparisons: readonly Comparison[];
}

/** The program or package a row compares with cannot be had on this machine. */
export class PeerNotFoundError extends Error {}

/** One row of the report, and of the JSON file. */
export interface Row {
  suite: string;
  row: string;
  peer: string;
  /** The median of our runs. */
  ours: number | null;
  /** The median of theirs. */
  theirs: number | null | 'not found';
  unit: string;
  /** The median of the ratios of the pairs, null when there is no peer. */
  ratio: number | null;
  limit: number | null;
}

export interface Result {
  row: Row;
  /** The ratio of each pair, in order. */
  ratios: readonly number[];
  /** Why the peer was not found. */
  reason?: string;
}

/**
 * Runs both sides in turns (theirs, ours, theirs, ours ...) and compares each run with its neighbour, because a
 * machine's speed drifts: the neighbours share the weather.
 */
export async function compare(suite: string, comparison: Comparison, effort: Effort): Promise<Result> {
  const { row, peer, unit, limit } = comparison;
  const ours: number[] = [];
  const theirs: number[] = [];
  const ratios: number[] = [];
  try {
    for (let pair = 0; pair < effort.pairs; pair++) {
      const their = await comparison.theirs(effort);
      const our = await comparison.ours(effort);
      theirs.push(their);
      ours.push(our);
      ratios.push(our / their);
    }
  } catch (error) {
    if (!(error instanceof PeerNotFoundError)) throw error;
    return {
      row: { suite, row, peer, ours: null, theirs: 'not found', unit, ratio: null, limit },
      ratios: [],
      reason: error.message,
    };
  }
  return {
    row: { suite, row, peer, ours: median(ours), theirs: median(theirs), unit, ratio: median(ratios), limit },
    ratios,
  };
}

export function isOverLimit({ ratio, limit }: Row): boolean {
  return ratio !== null && limit !== null && ratio > limit;
}
