import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from 'yaml';
import { ConfigError, type ConfigProblem } from './config-error.ts';
import type { Locate, Location } from './parse.ts';
import { grammarFault, grammarFaults, inexactFault, type YamlFault, yamlFaults } from './yaml-faults.ts';

/** A document read from text, and where each part of it stands. */
export interface Source {
  readonly document: unknown;
  readonly locate: Locate;
}

/** So often may one anchor be used; what a file of a few lines could make of nested ones stays bounded. */
const MAX_ALIASES = 10_000;

/**
 * Reads YAML 1.2 (core schema, with `<<` merge keys) or JSON. What would silently become another value than the one
 * that stands there is an error.
 *
 * @throws {ConfigError} ERR_CONFIG_INVALID with file, line and column of everything that is wrong.
 */
export function readSource(source: string, format: 'yaml' | 'json', file: string): Source {
  const text = source.replace(/^\ufeff/, '');
  const lines = new LineCounter();
  const position = (offset: number): Location => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  // JSON is read by the YAML reader too, which knows positions and refuses a key that is there twice.
  const parsed = parseDocument(text, { lineCounter: lines, merge: true, prettyErrors: false });
  const fail = (faults: readonly YamlFault[]): never => {
    const problems = faults.map(({ offset, message }) => ({ path: '', message, ...position(offset) }));
    throw new ConfigError(problems.sort((a, b) => a.line! - b.line! || a.column! - b.column!));
  };
  const locate: Locate = (path, key) => position(nodeAt(parsed, path, key)?.range?.[0] ?? 0);
  if (format === 'json') {
    const document = readJson(text, file, position);
    if (isTooDeep(document)) return fail([{ offset: 0, message: TOO_DEEP }]);
    const faults = jsonFaults(parsed, text);
    return faults.length > 0 ? fail(faults) : { document, locate };
  }
  const lone = /\r(?!\n)/.exec(text);
  if (lone && parsed.errors.length > 0)
    return fail([
      {
        offset: lone.index,
        message:
          'a line ends with a carriage return alone, which is no line end to YAML; save the file with line feeds',
      },
    ]);
  // What is wrong behind these follows from them.
  const deep = parsed.errors.find(({ message }) => /call stack/i.test(message));
  if (deep) return fail([{ offset: deep.pos[0], message: TOO_DEEP }]);
  const variable = parsed.errors.find(({ pos }) => text.startsWith('${', pos[0] - 1));
  if (variable)
    return fail([{ offset: variable.pos[0] - 1, message: 'a variable between [ ] or { } needs quotes: "${NAME}"' }]);
  const grammar = grammarFaults(parsed.errors, text);
  const faults = [...grammar, ...yamlFaults(parsed, text)];
  if (faults.length > 0) fail(faults);
  try {
    const document: unknown = parsed.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
    return isTooDeep(document) ? fail([{ offset: 0, message: TOO_DEEP }]) : { document, locate };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    return fail([{ offset: firstAlias(parsed), message: 'aliases make the document too large; write some of it out' }]);
  }
}

function readJson(text: string, file: string, position: (offset: number) => Location): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const { message } = error as Error;
    const place = /line (\d+) column (\d+)/.exec(message);
    const where = place ? { file, line: Number(place[1]), column: Number(place[2]) } : position(jsonFaultOffset(text));
    // Short texts are shown whole by Node, and may hold what is secret.
    const why = message.replace(/, (?:\.\.\.)?".*$/s, '');
    const problem: ConfigProblem = { path: '', message: `not JSON: ${why}`, ...where };
    throw new ConfigError([problem]);
  }
}

/** Node says no place for a word that JSON does not have, nor for a comma too many in a short text. */
function jsonFaultOffset(text: string): number {
  const [fault] = parseDocument(text, { schema: 'json', prettyErrors: false }).errors;
  if (fault) return fault.pos[0];
  const withoutTexts = text.replaceAll(/"(?:[^"\\]|\\.)*"/gs, quoted => ' '.repeat(quoted.length));
  return Math.max(0, withoutTexts.search(/,\s*[\]}]/));
}

const TOO_DEEP = 'lists, or keys and values, stand in each other too deeply; no setting needs that';

/** Far more than any setting has, and far less than what fills the stack of functions that call themselves. */
const MAX_DEPTH = 100;

function isTooDeep(document: unknown): boolean {
  let level: unknown[] = [document];
  for (let depth = 0; depth <= MAX_DEPTH; depth++) {
    // An object that several name is looked at once in each level.
    const inner = new Set(
      level.flatMap(value => (typeof value === 'object' && value !== null ? Object.values(value) : [])),
    );
    level = [...inner].filter(value => typeof value === 'object' && value !== null);
    if (level.length === 0) return false;
  }
  return true;
}

/** What JSON allows and an object cannot hold. */
function jsonFaults(parsed: Document.Parsed, text: string): YamlFault[] {
  const faults = parsed.errors.filter(({ code }) => code === 'DUPLICATE_KEY').map(error => grammarFault(error, text));
  visit(parsed, {
    Scalar(_, scalar) {
      const message = inexactFault(scalar);
      if (message !== undefined) faults.push({ offset: scalar.range?.[0] ?? 0, message });
    },
    Pair(_, { key }) {
      if (isScalar(key) && key.value === '__proto__')
        faults.push({ offset: key.range?.[0] ?? 0, message: '"__proto__" cannot be a key' });
    },
  });
  return faults;
}

function firstAlias(parsed: Document.Parsed): number {
  let offset = 0;
  visit(parsed, {
    Alias(_, alias) {
      offset = alias.range?.[0] ?? 0;
      return visit.BREAK;
    },
  });
  return offset;
}

/** The node of a path, or of the nearest thing around it when the path itself is not in the text (a missing key). */
function nodeAt(document: Document.Parsed, path: readonly PropertyKey[], key = false): Node | undefined {
  let node: unknown = document.contents;
  for (const [index, step] of path.entries()) {
    const inner = isAlias(node) ? node.resolve(document) : node;
    if (!isCollection(inner)) break;
    if (isMap(inner)) {
      const pair = inner.items.find(item => isScalar(item.key) && String(item.key.value) === String(step));
      if (!pair) break;
      node = (key && index === path.length - 1) || pair.value === null ? pair.key : pair.value;
    } else {
      node = inner.items[Number(step)] ?? node;
    }
  }
  return (node ?? undefined) as Node | undefined;
}
