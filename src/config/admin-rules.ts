import { isLoopback } from '../http/host-names.ts';
import type { Config } from './config.ts';
import { type BrokenRule, type Fields, fields } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

/** What of the admin port has no meaning without it. */
export function* brokenAdmin({ admin }: Fields): Generator<BrokenRule> {
  const { port, ...settings } = fields(admin);
  if (port !== undefined) return;
  for (const name of ['host', 'hosts', 'tokenFile', 'tls'])
    if (settings[name] !== undefined)
      yield {
        path: ['admin', name],
        message: 'is of the admin port, and there is none; add "port: 9901" or remove it',
      };
}

/** What of it is legal but will not do what was meant, of a configuration that was accepted. */
export function* checkAdmin({ admin }: Config): Generator<Doubt> {
  if (!admin || admin.port === undefined) return;
  const { host = '127.0.0.1', tls } = admin;
  if (!tls && !isLoopback(host))
    yield {
      code: 'admin-in-clear',
      path: ['admin', 'host'],
      message: 'other machines can reach it, and the token passes in the clear; add "tls", or listen on 127.0.0.1',
    };
}
