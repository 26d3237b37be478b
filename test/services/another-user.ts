import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const nobody = { uid: 65_534, gid: 65_534 } as const;

/** Whom this user may start programs of these sources as; undefined where there is nobody, or nobody else may read them. */
export const anotherUser = process.getuid?.() === 0 && canRead() ? nobody : undefined;

function canRead(): boolean {
  const args = ['--print', `fs.readFileSync(${JSON.stringify(fileURLToPath(import.meta.url))}).length > 0`];
  return spawnSync(process.execPath, args, nobody).status === 0;
}
