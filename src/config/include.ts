import { isUtf8 } from 'node:buffer';
import { existsSync } from 'node:fs';
import { glob, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, extname, relative, resolve } from 'node:path';
import { messageOf } from '../base/message-of.ts';
import { digestOf } from '../drivers/application-files.ts';
import { ConfigError, type ConfigProblem, formatPath } from './config-error.ts';
import { type Replaced, withEnvironment, withoutValues } from './environment.ts';
import { isExtension, isPlain } from './fields.ts';
import type { Locate } from './parse.ts';

/** A document of one file, or of one and those that it includes. */
export interface Document {
  readonly document: unknown;
  readonly locate: Locate;
  /** Its texts in which variables of the environment stood. */
  readonly replaced: readonly Replaced[];
  /** Those that it stands in, with the digests of what they held. */
  readonly files: ReadonlyMap<string, string>;
}

/** What files with a configuration that includes others are named. */
const READABLE = ['.yaml', '.yml', '.json'];
const WILDCARD = /[*?[\]{}]/;

/**
 * Reads a YAML or JSON file and those that its `include` names: files and globs, relative to the file that names them.
 * What a glob finds is read in the order of the bytes of its names, each file once. Lists are put behind each other, the
 * including file's first, and keys beside each other; a key that stands in two files is an error.
 *
 * @throws {ConfigError} ERR_CONFIG_INVALID with every problem of the files that can be read.
 */
export async function readDocument(file: string, environment: NodeJS.ProcessEnv = process.env): Promise<Document> {
  const parts = await readParts(file, { environment, chain: [], seen: new Set() });
  const [main, ...others] = parts;
  return others.length === 0 ? main! : merge(parts);
}

interface Reading {
  readonly environment: NodeJS.ProcessEnv;
  /** The files that include this one, as the paths that links lead to. */
  readonly chain: readonly string[];
  readonly seen: Set<string>;
}

async function readParts(file: string, reading: Reading): Promise<Document[]> {
  const { environment, chain, seen } = reading;
  const shown = relative(process.cwd(), file) || file;
  const text = await textOf(file, shown);
  const files = new Map([[file, digestOf(Buffer.from(text))]]);
  seen.add(await realpath(file));
  // With the parser of YAML, which a configuration in TypeScript does without.
  const { readSource } = await import('./source.ts');
  const source = readSource(text, file.endsWith('.json') ? 'json' : 'yaml', shown);
  const { document, replaced, faults } = withEnvironment(source.document, environment);
  const { locate } = source;
  const problems = faults.map(({ path, message }) => ({ path: formatPath(path), message, ...locate(path) }));
  if (problems.length > 0) throw new ConfigError(problems);
  if (!isPlain(document) || !('include' in document)) return [{ document, locate, replaced, files }];
  const { include, ...own } = document as Record<string, unknown>;
  const parts: Document[] = [{ document: own, locate, replaced, files }];
  const patterns = [include].flat();
  for (const [index, pattern] of patterns.entries()) {
    const at = Array.isArray(include) ? ['include', index] : ['include'];
    const fail = (message: string): never => {
      throw new ConfigError([withoutValues({ path: formatPath(at), message, ...locate(at) }, replaced)]);
    };
    if (typeof pattern !== 'string' || pattern === '')
      fail('expected the name of a file, or a glob such as "conf.d/*.yaml"');
    for (const included of await filesOf(pattern as string, dirname(file), fail)) {
      const real = await realpath(included);
      const around = [...chain, await realpath(file)];
      if (around.includes(real)) fail(`${relative(process.cwd(), included)} includes itself`);
      if (!seen.has(real)) parts.push(...(await readParts(included, { ...reading, chain: around })));
    }
  }
  return parts;
}

/** @throws {ConfigError} when it is not a file, or holds no text. */
async function textOf(file: string, shown: string): Promise<string> {
  const fail = (message: string): never => {
    throw new ConfigError([{ path: '', message, file: shown }]);
  };
  try {
    // To read a pipe would wait for its other end.
    if (!(await stat(file)).isFile()) fail('is not a file; name one');
    const content = await readFile(file);
    if (isUtf8(content)) return content.toString();
    const isUtf16 = /^(?:fffe|feff)/.test(content.subarray(0, 2).toString('hex'));
    return fail(`is not text in UTF-8${isUtf16 ? ' but in UTF-16' : ''}; save it as UTF-8`);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    return fail(`cannot be read: ${messageOf(error)}`);
  }
}

async function filesOf(pattern: string, folder: string, fail: (message: string) => never): Promise<string[]> {
  const files: string[] = [];
  if (WILDCARD.test(pattern))
    for await (const file of glob(pattern, { cwd: folder })) files.push(resolve(folder, file));
  else files.push(resolve(folder, pattern));
  for (const file of files) {
    const name = relative(process.cwd(), file);
    if (!existsSync(file)) fail(`there is no file ${name}; correct the name, or write a glob, which may match nothing`);
    if (!READABLE.includes(extname(file)))
      fail(`${name} is none of ${READABLE.join(', ')}; name what is to be included`);
  }
  return files.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

function merge(parts: readonly Document[]): Document {
  const whole = new Whole(parts[0]!);
  for (const part of parts) whole.add(part);
  if (whole.problems.length > 0) throw new ConfigError(whole.problems);
  return whole;
}

/** Documents put together. */
class Whole implements Document {
  readonly document: Record<string, unknown> = {};
  readonly replaced: Replaced[] = [];
  readonly files = new Map<string, string>();
  readonly problems: ConfigProblem[] = [];
  readonly #main: Document;
  /** Of keys and of what stands directly under them, by their paths in the whole: the part, and the path there. */
  readonly #origins = new Map<string, { readonly part: Document; readonly at: readonly PropertyKey[] }>();

  constructor(main: Document) {
    this.#main = main;
  }

  add(part: Document): void {
    for (const [file, digest] of part.files) this.files.set(file, digest);
    if (!isPlain(part.document)) {
      this.problems.push({ path: '', message: 'expected keys and values', ...part.locate([]) });
      return;
    }
    const shifts = new Map<PropertyKey, number>();
    for (const [key, value] of Object.entries(part.document))
      if (!isExtension(key)) shifts.set(key, this.#put(key, value, part));
    for (const text of part.replaced) this.replaced.push({ ...text, path: shifted(text.path, shifts) });
  }

  /** @returns how far entries of a list were moved by those before them. */
  #put(key: string, value: unknown, part: Document): number {
    const before = this.document[key];
    let shift = 0;
    if (before === undefined) this.document[key] = value;
    else if (Array.isArray(before) && Array.isArray(value)) {
      shift = before.length;
      this.document[key] = [...before, ...value];
    } else if (isPlain(before) && isPlain(value)) {
      for (const name of Object.keys(value)) if (Object.hasOwn(before, name)) this.#reportTwice([key, name], part);
      this.document[key] = { ...before, ...value };
    } else this.#reportTwice([key], part);
    this.#keepOrigin([key], { part, at: [key] });
    const inner = Array.isArray(value) ? [...value.keys()] : isPlain(value) ? Object.keys(value) : [];
    for (const step of inner)
      this.#keepOrigin([key, typeof step === 'number' ? step + shift : step], { part, at: [key, step] });
    return shift;
  }

  #keepOrigin(path: readonly PropertyKey[], origin: { part: Document; at: readonly PropertyKey[] }): void {
    const name = formatPath(path);
    if (!this.#origins.has(name)) this.#origins.set(name, origin);
  }

  #reportTwice(path: readonly PropertyKey[], part: Document): void {
    const { file, line } = this.locate(path, true);
    const message = `stands in ${file}:${line}, too; keep one of the two`;
    this.problems.push({ path: formatPath(path), message, ...part.locate(path, true) });
  }

  readonly locate: Locate = (path, key) => {
    for (const length of [2, 1]) {
      const origin = path.length >= length && this.#origins.get(formatPath(path.slice(0, length)));
      if (origin) return origin.part.locate([...origin.at, ...path.slice(length)], key);
    }
    return this.#main.locate(path, key);
  };
}

function shifted(path: readonly PropertyKey[], shifts: ReadonlyMap<PropertyKey, number>): readonly PropertyKey[] {
  const [key, step, ...rest] = path;
  return typeof step === 'number' ? [key!, step + (shifts.get(key!) ?? 0), ...rest] : path;
}
