import { execFile } from 'node:child_process';
import { access, glob, mkdir, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { PeerNotFoundError } from '../comparison.ts';
import { pathOf, type Server, startServer } from '../program.ts';

const VERSION = '1.4.5';

/** Bun's own server. Its program is some 90 MB, so it is installed on first use and not with the workspace. */
export async function startBun(work: string): Promise<Server> {
  return startServer(await (program ??= install()), [pathOf('servers/bun.ts'), work], true);
}

let program: Promise<string> | undefined;

async function install(): Promise<string> {
  const folder = pathOf('.build/bun/');
  const found = await find(folder);
  if (found) return found;
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}package.json`, '{ "private": true }\n');
  try {
    // The install script is not run: the platform's program is in a package of its own.
    await promisify(execFile)('npm', ['install', '--prefix', folder, '--ignore-scripts', `bun@${VERSION}`]);
  } catch (error) {
    throw new PeerNotFoundError(`npm could not install bun@${VERSION}`, { cause: error });
  }
  const installed = await find(folder);
  if (!installed) throw new PeerNotFoundError(`bun@${VERSION} has no program for this platform`);
  return installed;
}

/** The installed program. Packages for processors with and without AVX2 are both there: the plain name needs AVX2. */
async function find(folder: string): Promise<string | undefined> {
  const programs = await Array.fromAsync(glob(`${folder}node_modules/@oven/bun-*/bin/bun`));
  for (const program of programs.sort()) {
    try {
      await access(program);
      await promisify(execFile)(program, ['--version']);
      return program;
    } catch {
      // Another platform's or processor's program.
    }
  }
  return undefined;
}
