import type * as z from 'zod';
import { nearestName } from '../base/nearest-name.ts';
import type { Config } from './config.ts';
import { byPlace, ConfigError, type ConfigProblem, formatPath } from './config-error.ts';
import { isExtension, isPlain } from './fields.ts';
import { brokenReferences } from './references.ts';
import { configSchema } from './schema.ts';
import { kindOf, ONCE } from './schema-parts.ts';

/** Where a value or key of the document stands in its file. Only documents read from text know it. */
export interface Location {
  readonly file?: string;
  readonly line?: number;
  readonly column?: number;
}

/** Finds the place of a path; with `key`, that of the key rather than of its value. */
export type Locate = (path: readonly PropertyKey[], key?: boolean) => Location;

/**
 * Checks a configuration and returns it normalised: durations in milliseconds, sizes in bytes, -1 as it is.
 *
 * Live objects (endpoints, fetch handlers, stores) are passed through as the same objects. The document is not changed.
 * Keys at the top that begin with `x-` are left out: a place for anchors.
 *
 * @throws {ConfigError} ERR_CONFIG_INVALID with every problem found, in the order of the document.
 */
export function parseConfig(source: unknown, locate: Locate = () => ({})): Config {
  const document = withoutExtensions(source);
  const problems: ConfigProblem[] = [];
  const add = (path: readonly PropertyKey[], message: string, key?: boolean) =>
    problems.push({ path: formatPath(path), message, ...locate(path, key) });
  const circle = circleIn(document);
  if (circle) {
    add(circle, 'holds itself; write a part of it out');
    throw new ConfigError(problems);
  }
  const result = configSchema.safeParse(document, ONCE);
  for (const issue of result.error?.issues ?? []) report(issue, [], document, add);
  try {
    for (const rule of brokenReferences(document)) add(rule.path, rule.message);
  } catch (error) {
    // What the schema has refused can be of any type, also one that cannot be made a text.
    if (result.success) throw error;
  }
  if (problems.length > 0) throw new ConfigError(problems.sort(byPlace));
  return result.data!;
}

function withoutExtensions(document: unknown): unknown {
  if (!isPlain(document) || !Object.keys(document).some(isExtension)) return document;
  return Object.fromEntries(Object.entries(document).filter(([key]) => !isExtension(key)));
}

/** The path of a list or of keys and values that stand inside themselves; undefined when there are none. */
function circleIn(
  value: unknown,
  path: readonly PropertyKey[] = [],
  around: readonly unknown[] = [],
): typeof path | undefined {
  if (!Array.isArray(value) && !isPlain(value)) return undefined;
  if (around.includes(value)) return path;
  for (const [key, inner] of Object.entries(value)) {
    const circle = circleIn(inner, [...path, Array.isArray(value) ? Number(key) : key], [...around, value]);
    if (circle) return circle;
  }
  return undefined;
}

type Issue = z.core.$ZodIssue;

function report(
  issue: Issue,
  base: readonly PropertyKey[],
  document: unknown,
  add: (path: readonly PropertyKey[], message: string, key?: boolean) => void,
): void {
  const path = [...base, ...issue.path];
  const value = valueAt(document, path);
  if (issue.code === 'unrecognized_keys') {
    const messages = issue.message.split('\n');
    for (const [index, key] of issue.keys.entries()) add([...path, key], messages[index]!, true);
  } else if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    // The branch that was meant is the one whose complaint is about something inside the value, not about its type.
    const inside = issue.errors.filter(branch => !branch.some(isAboutWholeValue));
    const meant = inside.find(branch => !branch.some(isUnknownKey)) ?? inside[0];
    if (meant) for (const inner of meant) report(inner, path, document, add);
    else add(path, `expected ${unionExpectation(issue)}, got ${show(value)}${quotes(issue, value)}`);
  } else if (issue.code === 'invalid_type' && value === undefined) {
    add(path, `is missing; expected ${expectation(issue)}`);
  } else if (issue.code === 'invalid_type' || issue.code === 'invalid_value') {
    add(path, `expected ${expectation(issue)}, got ${show(value)}${suggestion(issue, value)}${quotes(issue, value)}`);
  } else {
    add(path, issue.message);
  }
}

function isUnknownKey(issue: Issue): boolean {
  return issue.code === 'unrecognized_keys' && issue.path.length === 0;
}

function isAboutWholeValue(issue: Issue): boolean {
  return issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value' || isLive(issue));
}

/** `z.custom` and `z.instanceof`: the issue says what the live object should have been. */
function isLive(issue: Issue): boolean {
  return issue.code === 'custom' && issue.message.startsWith('expected ');
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  array: 'a list',
  boolean: 'true or false',
  number: 'a number',
  object: 'keys and values',
  record: 'keys and values',
  string: 'text',
};

function expectation(issue: Issue): string {
  if (issue.code === 'invalid_type') return TYPE_NAMES[issue.expected] ?? issue.expected;
  if (issue.code === 'invalid_value') {
    const values = issue.values.map(value => (typeof value === 'string' ? `"${value}"` : String(value)));
    return values.length > 1 ? `${values.slice(0, -1).join(', ')} or ${values.at(-1)}` : values[0]!;
  }
  return issue.message.replace(/^expected /, '');
}

function unionExpectation(issue: Extract<Issue, { code: 'invalid_union' }>): string {
  if (issue.message.startsWith('expected ')) return issue.message.slice('expected '.length);
  return issue.errors.map(branch => expectation(branch[0]!).replace(/, got .*/, '')).join(' or ');
}

function suggestion(issue: Issue, value: unknown): string {
  if (issue.code !== 'invalid_value' || typeof value !== 'string') return '';
  const near = nearestName(value, issue.values.map(String));
  return near ? `; did you mean "${near}"?` : '';
}

/** In YAML, text that begins with `[` or `{` is a list, or keys and values. */
function quotes(issue: Issue, value: unknown): string {
  if (!(Array.isArray(value) || isPlain(value)) || !expectsText(issue)) return '';
  return `; text that begins with "${Array.isArray(value) ? '[' : '{'}" needs quotes`;
}

function expectsText(issue: Issue): boolean {
  if (issue.code === 'invalid_union')
    return !issue.message.startsWith('expected ') && issue.errors.some(branch => branch.some(expectsText));
  return issue.path.length === 0 && issue.code === 'invalid_type' && issue.expected === 'string';
}

function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'nothing';
  if (typeof value === 'object') return kindOf(value);
  if (typeof value === 'function') return 'a function';
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return shown.length > 60 ? `${shown.slice(0, 60)}...` : shown;
}

function valueAt(document: unknown, path: readonly PropertyKey[]): unknown {
  let value = document;
  for (const step of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[step];
  return value;
}
