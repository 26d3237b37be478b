import { glob } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { ConfigError } from '../../config/config-error.ts';
import { modules } from '../../config/modules.ts';
import { loadFailure } from '../../drivers/application-files.ts';
import type { Endpoint } from '../../websocket/connection.ts';
import { isEndpoint } from '../../websocket/endpoint.ts';

/** An endpoint that a module exports, and where it was found. */
export interface DeclaredEndpoint {
  readonly endpoint: Endpoint<unknown>;
  /** `file#export`, with the file as the folder sees it: it names the route, also in logs and metrics. */
  readonly source: string;
}

/**
 * Loads the modules that match the globs and collects the endpoints that they export. Declared is deployed: nothing
 * registers them.
 *
 * An endpoint that several modules export (a barrel file) is taken once.
 *
 * @throws {ConfigError} ERR_CONFIG_INVALID when a module cannot be loaded, or the globs match nothing.
 */
export async function declaredEndpoints(globs: readonly string[], folder: string): Promise<DeclaredEndpoint[]> {
  if (globs.length === 0) return [];
  const files: string[] = [];
  for await (const file of glob([...globs], { cwd: folder })) files.push(file);
  if (files.length === 0)
    throw problem(`no file matches ${globs.join(', ')} in ${folder}; fix the pattern or remove it`);
  const found = new Map<Endpoint<unknown>, DeclaredEndpoint>();
  for (const file of files.sort()) {
    const path = resolve(folder, file);
    const exported = await load(path);
    for (const [name, value] of Object.entries(exported))
      if (isEndpoint(value) && !found.has(value))
        found.set(value, { endpoint: value, source: `${relative(folder, path)}#${name}` });
  }
  return [...found.values()];
}

async function load(file: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return await modules.load(file);
  } catch (cause) {
    throw problem(`${file} cannot be loaded: ${loadFailure(cause)}`, cause);
  }
}

function problem(message: string, cause?: unknown): ConfigError {
  return new ConfigError([{ path: 'endpoints', message }], 'ERR_CONFIG_INVALID', cause);
}
