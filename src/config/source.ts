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
import { grammarFault, type YamlFault, yamlFaults } from './yaml-faults.ts';

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
    const faults = jsonFaults(parsed, text);
    return faults.length > 0 ? fail(faults) : { document, locate };
  }
  // What is wrong behind it follows from it.
  const variable = parsed.errors.find(({ pos }) => text.startsWith('${', pos[0] - 1));
  if (variable)
    return fail([{ offset: variable.pos[0] - 1, message: 'a variable between [ ] or { } needs quotes: "${NAME}"' }]);
  const grammar = parsed.errors.map(error => grammarFault(error, text));
  const faults = [...grammar, ...yamlFaults(parsed, text)];
  if (faults.length > 0) fail(faults);
  try {
    return { document: parsed.toJS({ maxAliasCount: MAX_ALIASES }) ?? {}, locate };
  } catch {
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
    const problem: ConfigProblem = { path: '', message: `not JSON: ${message}`, ...where };
    throw new ConfigError([problem]);
  }
}

/** Node says no place for a word that JSON does not have. */
function jsonFaultOffset(text: string): number {
  return parseDocument(text, { schema: 'json', prettyErrors: false }).errors[0]?.pos[0] ?? 0;
}

/** What JSON allows and an object cannot hold. */
function jsonFaults(parsed: Document.Parsed, text: string): YamlFault[] {
  const twice = parsed.errors.filter(({ code }) => code === 'DUPLICATE_KEY').map(error => grammarFault(error, text));
  visit(parsed, {
    Pair(_, { key }) {
      if (isScalar(key) && key.value === '__proto__')
        twice.push({ offset: key.range?.[0] ?? 0, message: '"__proto__" cannot be a key' });
    },
  });
  return twice;
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
