import { basename } from 'node:path';
import { median } from './statistics.ts';

/** How long and how often a comparison is run. */
export interface Effort {
  /** Runs of each side. */
  pairs: number;
  /** Load before the figure is taken, so that compilers and caches have settled. */
  warmUpMs: number;
  /** Load while the figure is taken. */
  measureMs: number;
  /** Folder of the checkout of Holdfast whose servers are ours. Default: the one that this file is in. */
  checkout?: string;
}

/** Measures one side once, in processes of its own that are gone when it settles. */
export type Measurement = (effort: Effort) => Promise<number>;

/** What came of one pair. */
export interface Measured {
  readonly ours: number;
  readonly theirs: number;
  /** Default: ours / theirs. */
  readonly ratio?: number;
}

/** The same for both sides at once, in turns so short that a change of the machine's speed meets both. */
export type SideBySide = (effort: Effort) => Promise<Measured>;

/** One row: the same work done by us and by a peer. Less is better in every unit. */
export interface Comparison {
  row: string;
  peer: string;
  unit: string;
  /** The largest ratio ours / theirs that passes; null when the row is only reported. */
  limit: number | null;
  /** Pairs of runs for each that the effort asks for. Default 1: more for runs that are short. */
  turns?: number;
  ours: Measurement;
  /** Set when our side says nothing about a checkout: it is a peer's, or the same as in another row. */
  about?: 'peers';
  /** @throws {PeerNotFoundError} when the peer is not on this machine. */
  theirs: Measurement;
  /** Measures each pair in the place of the two. Default: they run one after the other. */
  sideBySide?: SideBySide;
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
  const { row, peer, unit, limit, turns = 1 } = comparison;
  const ours: number[] = [];
  const theirs: number[] = [];
  const ratios: number[] = [];
  try {
    for (let pair = 0; pair < effort.pairs * turns; pair++) {
      const measured = await (comparison.sideBySide?.(effort) ?? oneAfterTheOther(comparison, effort));
      theirs.push(measured.theirs);
      ours.push(measured.ours);
      ratios.push(measured.ratio ?? measured.ours / measured.theirs);
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

async function oneAfterTheOther({ ours, theirs }: Comparison, effort: Effort): Promise<Measured> {
  const their = await theirs(effort);
  return { theirs: their, ours: await ours(effort) };
}

/**
 * The rows of a suite with another checkout of Holdfast as the peer, each row once: what is compared is our own side of
 * it, by one way to measure.
 */
export function betweenCheckouts({ comparisons }: Suite, checkout: string, limit: number): Comparison[] {
  const rows = new Map<string, Comparison>();
  for (const { row, unit, about, ours, turns = 1 } of comparisons) {
    if (about === 'peers' || rows.has(row)) continue;
    const theirs: Measurement = effort => ours({ ...effort, checkout });
    rows.set(row, { row, peer: basename(checkout), unit, limit, turns, ours, theirs });
  }
  return [...rows.values()];
}

export function isOverLimit({ ratio, limit }: Row): boolean {
  return ratio !== null && limit !== null && ratio > limit;
}
