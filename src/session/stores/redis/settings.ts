import type { Logger } from '../../../base/logger.ts';
import type { RedisConnection } from '../../../drivers/redis/connection.ts';
import type { RedisNode } from '../../../drivers/redis/nodes.ts';

/**
 * Looks at the settings of every server that endanger sessions, and says so. Never rejects: a user may not be allowed
 * to ask.
 */
export async function warnOfSettings(connection: RedisConnection, logger: Logger): Promise<void> {
  await Promise.all(connection.masters().map(node => warnOf(node, connection, logger)));
}

/** Which share of its `maxmemory` a server has in use. Undefined when there is none, or it does not say. */
export async function memoryShare(node: RedisNode, connection: RedisConnection): Promise<number | undefined> {
  try {
    const info = infoOf(String(await connection.sendTo(node, ['INFO', 'memory'])));
    const max = Number(info.get('maxmemory') ?? 0);
    return max > 0 ? Number(info.get('used_memory')) / max : undefined;
  } catch {
    return undefined; // it may not be allowed, or the server is away, which other calls say
  }
}

function infoOf(text: string): ReadonlyMap<string | undefined, string | undefined> {
  return new Map(Array.from(text.matchAll(/^(\w+):(.*?)\r?$/gm), ([, name, value]) => [name, value]));
}

async function warnOf(node: RedisNode, connection: RedisConnection, logger: Logger): Promise<void> {
  const { address } = node;
  let text: string;
  try {
    text = String(await connection.sendTo(node, ['INFO']));
  } catch (err) {
    logger.info({ err, address }, 'redis does not tell its settings: check maxmemory-policy and appendonly by hand');
    return;
  }
  const info = infoOf(text);
  const version = info.get('redis_version');
  const policy = info.get('maxmemory_policy');
  if (version && Number(version.split('.')[0]) < 7) {
    logger.warn({ address, version }, 'this redis is older than 7.0, the first version that sessions are tested with');
  }
  // Records have a time to live, so the policies for keys with one take them as well.
  if (policy && policy !== 'noeviction' && info.get('maxmemory') !== '0') {
    logger.warn(
      { address, policy },
      'redis drops keys, and logins with them, when its memory is full; set maxmemory-policy noeviction',
    );
  }
  if (info.get('aof_enabled') === '0') {
    logger.warn({ address }, 'redis forgets the latest sessions when it stops; set appendonly yes');
  }
}
