/** 0: done. 1: it failed, or what was checked is wrong. 2: the command line is wrong; nothing was done. */
export type ExitCode = 0 | 1 | 2;

export interface CommandOption {
  readonly type: 'string' | 'boolean';
  readonly short?: string;
  /** May be repeated: its value is a list. */
  readonly multiple?: boolean;
  /** What stands for the value in the help: `FILE`. */
  readonly placeholder?: string;
  readonly help: string;
}

/** A word of the command line that is not an option, in its order. */
export interface CommandPositional {
  /** As the help shows it: `URL`. */
  readonly name: string;
  readonly help: string;
  /** May be left out. Only optional ones follow it. */
  readonly optional?: boolean;
}

export type OptionValues = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

/** One word after `holdfast`. */
export interface Command {
  readonly summary: string;
  readonly options: Readonly<Record<string, CommandOption>>;
  /** Default: none, and any is refused. */
  readonly positionals?: readonly CommandPositional[];
  /**
   * @param positionals As many as are not optional, at least.
   * @throws {UsageError} when the options do not fit: 2. Any other error is printed: 1.
   */
  run(options: OptionValues, positionals: readonly string[]): Promise<ExitCode>;
}

/** The command line is wrong. The message ends the program with 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
