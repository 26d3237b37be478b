import { type ConfigProblem, formatPath } from './config-error.ts';
import { isExtension, isPlain } from './fields.ts';

/** A text of a document in which variables of the environment stood. */
export interface Replaced {
  readonly path: readonly PropertyKey[];
  /** As it stands in the file: `${PORT:-8080}`. */
  readonly written: string;
  /** What takes its place. */
  readonly text: string;
}

/** A document with the values of variables in their places, and what is wrong with some. */
export interface WithEnvironment {
  readonly document: unknown;
  readonly replaced: readonly Replaced[];
  readonly faults: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];
}

/** `$${`, which stands for `${`; or a variable, which may lack its end. */
const VARIABLE = /\$\$\{|\$\{([^}]*)(\}?)/g;
const NAME_AND_DEFAULT = /^([A-Za-z_]\w*)(?::-(.*))?$/s;

/**
 * Puts variables of the environment into the texts of a document: `${NAME}`, or `${NAME:-default}` for one that is not
 * set or empty, as a shell does. Keys stay as they are, and so does what follows `$${`, which is `${`, and what stands
 * under keys that are left out (`x-`).
 */
export function withEnvironment(document: unknown, environment: NodeJS.ProcessEnv): WithEnvironment {
  const replaced: Replaced[] = [];
  const faults: { path: readonly PropertyKey[]; message: string }[] = [];
  const walk = (value: unknown, path: readonly PropertyKey[]): unknown => {
    if (typeof value === 'string') {
      if (!value.includes('${')) return value;
      const text = value.replaceAll(VARIABLE, (written, content?: string, end?: string) => {
        if (content === undefined) return '${';
        const found = end === '}' ? variableIn(content, environment) : badVariable(written);
        if (typeof found === 'string') return found;
        faults.push({ path, message: found.fault });
        return written;
      });
      replaced.push({ path, written: value, text });
      return text;
    }
    if (Array.isArray(value)) return value.map((entry, index) => walk(entry, [...path, index]));
    if (!isPlain(value)) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [
        key,
        path.length === 0 && isExtension(key) ? inner : walk(inner, [...path, key]),
      ]),
    );
  };
  return { document: walk(document, []), replaced, faults };
}

function variableIn(content: string, environment: NodeJS.ProcessEnv): string | { readonly fault: string } {
  const match = NAME_AND_DEFAULT.exec(content);
  if (!match) return badVariable(`\${${content}}`);
  const [, name, fallback] = match;
  const value = environment[name!];
  if (fallback?.includes('${'))
    return {
      fault: `the default of \${${name}} holds another variable, which is not replaced; write one variable, or a text`,
    };
  if (fallback !== undefined) return value || fallback;
  if (value !== undefined) return value;
  return { fault: `the environment variable ${name} is not set; set it, or give a default: \${${name}:-...}` };
}

function badVariable(written: string): { readonly fault: string } {
  const shown = written.length > 40 ? `${written.slice(0, 40)}...` : written;
  return {
    fault: `${JSON.stringify(shown)} is not a variable; write \${NAME} or \${NAME:-default}, and "$\${" where "\${" is meant`,
  };
}

/** The number or the truth value that a text of the environment would be without quotes; undefined: it is text. */
export function unquoted(text: string): number | boolean | undefined {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

/** The same problem without values of variables: one may be a secret. They are shown as they stand in the file. */
export function withoutValues(problem: ConfigProblem, replaced: readonly Replaced[]): ConfigProblem {
  let { message } = problem;
  for (const { path, written, text } of replaced) {
    const quoted = JSON.stringify(text);
    // Of a long text its beginning is shown.
    for (const shown of [quoted, `${quoted.slice(0, 60)}...`])
      message = message.replaceAll(shown, JSON.stringify(written));
    if (text.length >= SHORTEST_SECRET && areOfOnePlace(problem.path, formatPath(path)))
      message = message.replaceAll(text, written);
  }
  return { ...problem, message };
}

/** What is shorter stands in words of a message by chance. */
const SHORTEST_SECRET = 4;

/** A problem of a text, of what it stands in, or of what is in it. */
function areOfOnePlace(one: string, other: string): boolean {
  return one !== '' && (one === other || [one, other].some((at, index) => isBelow(at, [other, one][index]!)));
}

function isBelow(path: string, above: string): boolean {
  return path.startsWith(`${above}.`) || path.startsWith(`${above}[`);
}

/** The document with some of its texts as the numbers that they look like. */
export function withNumbers(document: unknown, replaced: readonly Replaced[]): unknown {
  const changed = structuredClone(document);
  for (const { path, text } of replaced) {
    const around = path.slice(0, -1).reduce((value, step) => (value as Record<PropertyKey, unknown>)[step], changed);
    (around as Record<PropertyKey, unknown>)[path.at(-1)!] = unquoted(text);
  }
  return changed;
}

/** Does a problem speak of this text? */
export function isAbout({ path }: ConfigProblem, replaced: Replaced): boolean {
  return path === formatPath(replaced.path);
}
