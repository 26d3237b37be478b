import { nearestName } from '../base/nearest-name.ts';
import { jsonLine } from '../server/log/escape.ts';
import { standardOutput } from '../server/log/standard-output.ts';
import { AdminClient, adminOptions } from './admin-client.ts';
import {
  type Command,
  type CommandOption,
  type CommandPositional,
  type ExitCode,
  type OptionValues,
  UsageError,
} from './command.ts';

/** What a command does with a running server: the word behind its name says which. */
export interface Action {
  /** Words that it needs: `SID`. */
  readonly needs?: readonly string[];
  /** Words that it takes besides, and does without. */
  readonly takes?: readonly string[];
  /** Names of options that are its own; those of every command go with each. */
  readonly options?: readonly string[];
  run(asked: AskedAction): Promise<ExitCode>;
}

export interface AskedAction {
  readonly client: AdminClient;
  readonly options: OptionValues;
  readonly words: readonly string[];
  /** Prints the answer: JSON on one line for programs, otherwise the text for people. */
  print(answer: object, text: () => string): ExitCode;
}

export interface ActionCommand {
  readonly name: string;
  readonly summary: string;
  readonly options?: Readonly<Record<string, CommandOption>>;
  readonly positionals: readonly CommandPositional[];
  /** By their words; the first is what is done without a word. */
  readonly actions: Readonly<Record<string, Action>>;
}

const COMMON = new Set([...Object.keys(adminOptions), 'help']);

/** A command that asks a running server, with several actions. */
export function actionCommand({ name, summary, options = {}, positionals, actions }: ActionCommand): Command {
  return {
    summary,
    options: { ...options, ...adminOptions },
    positionals,
    async run(given, [word = Object.keys(actions)[0]!, ...words]) {
      const action = Object.hasOwn(actions, word) ? actions[word]! : unknownAction(name, word, Object.keys(actions));
      checkWords(name, word, action, words);
      checkOptions(name, word, action, given);
      const client = await AdminClient.find(given);
      return action.run({ client, options: given, words, print: (answer, text) => print(given, answer, text) });
    },
  };
}

/** As `AskedAction.print`, for commands with one action. */
export function print(options: OptionValues, answer: object, text: () => string): ExitCode {
  standardOutput().write(options.json ? jsonLine(answer) : text());
  return 0;
}

/** @throws {UsageError} when it is no whole number above 0. */
export function wholeNumber(name: string, text: OptionValues[string]): number | undefined {
  if (typeof text !== 'string') return undefined;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`--${name}: ${JSON.stringify(text.slice(0, 40))} is not a whole number above 0`);
}

export function textOption(value: OptionValues[string]): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function unknownAction(name: string, word: string, known: readonly string[]): never {
  const near = nearestName(word, known);
  const remedy = near === undefined ? `there are ${known.join(', ')}` : `did you mean "${near}"?`;
  throw new UsageError(`${name}: unknown action "${word.slice(0, 40)}"; ${remedy}`);
}

function checkWords(name: string, word: string, action: Action, words: readonly string[]): void {
  const { needs = [], takes = [] } = action;
  const missing = needs[words.length];
  const usage = `write: holdfast ${[name, word, ...needs, ...takes.map(one => `[${one}]`)].join(' ')}`;
  if (missing !== undefined) throw new UsageError(`${name} ${word}: ${missing} is missing; ${usage}`);
  const surplus = words[needs.length + takes.length];
  if (surplus !== undefined) throw new UsageError(`${name} ${word}: unexpected argument "${surplus}"; ${usage}`);
}

/** An option that does nothing here was meant to do something. */
function checkOptions(name: string, word: string, { options = [] }: Action, given: OptionValues): void {
  const idle = Object.keys(given).find(option => !COMMON.has(option) && !options.includes(option));
  if (idle !== undefined) throw new UsageError(`${name} ${word}: --${idle} has no effect here; remove it`);
}
