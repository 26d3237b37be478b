import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../base/message-of.ts';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { AssertionKeys } from '../../gateway/backend-session/assertion.ts';
import { keyInFile } from '../../session/identity/key-file.ts';
import { checkDisk } from '../../session/room/disk.ts';
import { dataFolderOf, keysFolder } from '../data-folder.ts';
import { folderProblem } from '../writable-folder.ts';
import { describedSessions } from './described-sessions.ts';
import { tokenProblem } from './internal.ts';

/** A file that a start makes where it is not there. */
interface GeneratedFile {
  readonly path: string;
  /** @throws when it is there and cannot be used. */
  judge(content: Buffer): void;
}

/**
 * What makes a start fail because of the data folder: what is generated in it cannot be, or is there and cannot be used.
 * A configuration that names all its keys needs no such folder.
 */
export async function checkDataFolder(config: Config): Promise<BrokenRule[]> {
  const folder = dataFolderOf(config);
  const faults = new Set<string>();
  for (const { path, judge } of generatedFiles(config, keysFolder(folder))) {
    try {
      const content = await contentOf(path);
      if (content !== undefined) {
        judge(content);
        continue;
      }
      const problem = await folderProblem(join(path, '..'));
      if (problem !== undefined) throw new TypeError(problem);
      checkDisk(path, folder.disk);
    } catch (error) {
      faults.add(messageOf(error));
    }
  }
  return Array.from(faults, message => ({ path: ['dataFolder'], message }));
}

async function contentOf(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new TypeError(`cannot read ${path}: ${messageOf(error)}; let this user read it; do not replace it`);
  }
}

function* generatedFiles(config: Config, folder: string): Generator<GeneratedFile> {
  const upstreams = Object.entries(config.upstreams ?? {});
  if (describedSessions(config).some(({ session }) => session.keyFiles === undefined))
    yield {
      path: join(folder, 'session.key'),
      judge: content => {
        if (!keyInFile(content)) throw new TypeError(`${join(folder, 'session.key')} does not hold a key; restore it`);
      },
    };
  if (config.assertions?.keyFiles === undefined && upstreams.some(([, { assertion }]) => assertion))
    yield { path: join(folder, 'assertion.pem'), judge: content => void new AssertionKeys([content.toString()]) };
  for (const [name, { sessionApi }] of config.internal ? upstreams : []) {
    if (!sessionApi) continue;
    const { tokenFile, tokenVariable } = sessionApi === true ? {} : sessionApi;
    if (tokenFile !== undefined || tokenVariable !== undefined) continue;
    const path = join(folder, `session-api-${encodeURIComponent(name)}.token`);
    yield {
      path,
      judge: content => {
        const problem = tokenProblem(content.toString().trim());
        if (problem !== undefined) throw new TypeError(`${path}: ${problem}`);
      },
    };
  }
  const isSelfSigned = [...(config.listen ?? []), config.internal, config.admin || undefined].some(
    one => one?.tls === 'self-signed',
  );
  if (isSelfSigned) yield { path: join(folder, '..', 'development.crt'), judge: () => {} };
}
