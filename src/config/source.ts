import { type Document, isAlias, isCollection, isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { ConfigError, type ConfigProblem } from './config-error.ts';
import type { Locate, Location } from './parse.ts';

/** A document read from text, and where each part of it stands. */
export interface Source {
  readonly document: unknown;
  readonly locate: Locate;
}

/**
 * Reads YAML 1.2 (with `<<` merge keys) or JSON.
 *
 * @throws {ConfigError} ERR_CONFIG_INVALID with file, line and column of every syntax error.
 */
export function readSource(text: string, format: 'yaml' | 'json', file: string): Source {
  const lines = new LineCounter();
  const position = (offset: number): Location => {
    const { line, col } = lines.linePos(offset);
    return { file, line, column: col };
  };
  // JSON is read by the YAML reader too, which knows positions and refuses a key that is there twice.
  const parsed = parseDocument(text, { lineCounter: lines, merge: true, prettyErrors: false });
  const problems: ConfigProblem[] =
    format === 'json'
      ? jsonProblem(text, file)
      : parsed.errors.map(error => ({ path: '', message: lowerFirst(error.message), ...position(error.pos[0]) }));
  if (problems.length === 0 && parsed.errors[0])
    problems.push({ path: '', message: lowerFirst(parsed.errors[0].message), ...position(parsed.errors[0].pos[0]) });
  if (problems.length > 0) throw new ConfigError(problems);
  try {
    return {
      document: parsed.toJS() ?? {},
      locate: (path, key) => position(nodeAt(parsed, path, key)?.range?.[0] ?? 0),
    };
  } catch (error) {
    // An alias without its anchor, or so many of them that the document would explode.
    throw new ConfigError([{ path: '', message: lowerFirst((error as Error).message), file }]);
  }
}

function jsonProblem(text: string, file: string): ConfigProblem[] {
  try {
    JSON.parse(text);
    return [];
  } catch (error) {
    const message = (error as Error).message;
    const place = /line (\d+) column (\d+)/.exec(message);
    const where = place ? { line: Number(place[1]), column: Number(place[2]) } : {};
    return [{ path: '', message: `not JSON: ${message}`, file, ...where }];
  }
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

function lowerFirst(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}
