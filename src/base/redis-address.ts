/** Where a server is and who we are to it. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly database: number;
}

/** A master by its name, which its Sentinels know. */
export interface SentinelAddress {
  readonly name: string;
  readonly sentinels: readonly RedisAddress[];
  /** How one speaks to the master itself. */
  readonly master: Omit<RedisAddress, 'host' | 'port'>;
}

/** What one or several addresses of a Redis say. */
export interface RedisAddresses {
  /** One, or several of a cluster. */
  readonly servers: readonly RedisAddress[];
  /** In their place. */
  readonly sentinel: SentinelAddress | undefined;
  /** What stands behind `?`. */
  readonly options: { readonly prefix?: string; readonly replicas?: string };
}

const SENTINEL_PORT = 26_379;
const SENTINEL =
  /^(rediss?)\+sentinel:\/\/(?:([^@/?#]*)@)?([^@/?#]+)(?:\/([^/?#]*))?(?:\/([^/?#]+))?\/?(?:\?([^#]*))?$/;
const HOST = /^(?:\[([\da-f:.]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/i;

/**
 * Reads `redis://user:password@host:port/database`, or several of a cluster, or
 * `redis+sentinel://user:password@host:port,host:port/name/database` (`rediss…`: TLS). Behind `?` may stand `prefix` and
 * `replicas`, and for Sentinels `sentinelUsername` and `sentinelPassword`.
 *
 * @throws {TypeError} which does not repeat the address: it may hold a password.
 */
export function parseRedisAddresses(urls: readonly string[]): RedisAddresses {
  if (urls.length === 0) throw new TypeError('redis: no address given; write for example redis://localhost:6379/0');
  const options: Record<string, string> = {};
  for (const url of urls) {
    const isSentinel = url.includes('+sentinel:');
    const known = ['prefix', 'replicas', ...(isSentinel ? ['sentinelUsername', 'sentinelPassword'] : [])];
    for (const [name, value] of new URLSearchParams(url.split('#')[0]!.split('?').slice(1).join('?'))) {
      if (!known.includes(name))
        throw new TypeError(
          `redis: the address has an option ${JSON.stringify(name)}; it may have ${known.slice(0, -1).join(', ')} and ${known.at(-1)}`,
        );
      options[name] = value;
    }
  }
  const named = urls.filter(url => /^rediss?\+sentinel:/.test(url));
  if (named.length === 0) return { servers: urls.map(parseServer), sentinel: undefined, options };
  if (named.length < urls.length)
    throw new TypeError('redis: some of the addresses are of Sentinels, and some are not; give the Sentinels only');
  const parsed = urls.map(url => parseSentinel(url, options));
  const [{ name, master }] = parsed as [SentinelAddress];
  if (new Set(parsed.map(one => JSON.stringify([one.name, one.master]))).size > 1)
    throw new TypeError('redis: the addresses of the Sentinels differ in more than host and port');
  return { servers: [], sentinel: { name, master, sentinels: parsed.flatMap(({ sentinels }) => sentinels) }, options };
}

function parseServer(text: string): RedisAddress {
  const url = URL.parse(text);
  const database = url?.pathname.slice(1) ?? '';
  const isHost = url && url.hostname !== '' && !url.hostname.includes(',');
  if (!isHost || !/^rediss?:$/.test(url.protocol) || !/^\d*$/.test(database)) {
    throw new TypeError(
      'redis: the address is not a URL such as redis://user:password@host:6379/0, or rediss://… for TLS; percent-encode special characters of the password',
    );
  }
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port || 6379),
    isTls: url.protocol === 'rediss:',
    ...(url.username && { username: decodePercent(url.username) }),
    ...(url.password && { password: decodePercent(url.password) }),
    database: Number(database),
  };
}

/** It names several hosts, which a URL cannot. */
function parseSentinel(text: string, options: Readonly<Record<string, string>>): SentinelAddress {
  const [, scheme, user = '', hosts = '', name = '', database = '0'] = SENTINEL.exec(text) ?? [];
  const places = hosts.split(',').map(host => HOST.exec(host));
  const isBroken = places.some(place => place === null || Number(place[3] ?? 1) > 65_535);
  if (isBroken || name === '' || !/^\d+$/.test(database)) {
    throw new TypeError(
      'redis: the address is not one of Sentinels, such as redis+sentinel://user:password@host:26379,host:26379/name/0, or rediss+sentinel://… for TLS, where "name" is what they call the master; percent-encode special characters of the password',
    );
  }
  const isTls = scheme === 'rediss';
  const [username = '', ...rest] = user.split(':');
  const { sentinelUsername, sentinelPassword } = options;
  return {
    name: decodePercent(name),
    sentinels: places.map(place => ({
      ...{ host: place![1] ?? place![2]!, port: Number(place![3] ?? SENTINEL_PORT), isTls, database: 0 },
      ...credentials(sentinelUsername ?? '', sentinelPassword ?? ''),
    })),
    master: {
      ...{ isTls, database: Number(database) },
      ...credentials(decodePercent(username), decodePercent(rest.join(':'))),
    },
  };
}

function credentials(username: string, password: string): Pick<RedisAddress, 'username' | 'password'> {
  return { ...(username !== '' && { username }), ...(password !== '' && { password }) };
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a password with a percent sign that begins no code
  }
}
