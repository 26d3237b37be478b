import { broughtManager } from '../../config/brought-manager.ts';
import type { ApplicationConfig, Config, SessionConfig } from '../../config/config.ts';

/** Sessions that a configuration says how to make: those of the server, and of mounted applications. */
export interface DescribedSessions {
  readonly session: SessionConfig;
  readonly at: readonly PropertyKey[];
}

/** Those that a start opens. What a program brings is open already. */
export function* describedSessions(config: Config): Generator<DescribedSessions> {
  yield* described(config.session ?? {}, ['session']);
  yield* below(config, []);
}

function* below({ routes = [] }: ApplicationConfig, at: readonly PropertyKey[]): Generator<DescribedSessions> {
  for (const [index, { application }] of routes.entries()) {
    if (!application) continue;
    const inner = [...at, 'routes', index, 'application'];
    if (application.session !== undefined) yield* described(application.session, [...inner, 'session']);
    yield* below(application, inner);
  }
}

function* described(session: Config['session'], at: readonly PropertyKey[]): Generator<DescribedSessions> {
  if (session && !broughtManager(session)) yield { session: session as SessionConfig, at };
}
