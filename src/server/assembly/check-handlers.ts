import { systemClock } from '../../base/clock.ts';
import { toError } from '../../base/errors.ts';
import { silentLogger } from '../../base/logger.ts';
import type { ApplicationConfig, Config, RouteConfig } from '../../config/config.ts';
import { ConfigError } from '../../config/config-error.ts';
import { type BrokenRule, title } from '../../config/fields.ts';
import { createRouter, type RouteEntry } from '../../gateway/routing/router.ts';
import type { Endpoint } from '../../websocket/connection.ts';
import { servedEndpoint } from '../../websocket/endpoint.ts';
import type { ThreadServices } from '../../websocket/threads/thread-pool.ts';
import { declaredEndpoints } from './declared-endpoints.ts';
import { dispatcherOf, dispatchersOf } from './routes.ts';

type Path = readonly PropertyKey[];

/**
 * What makes a start fail because of the handlers of an endpoint, in the words of the start: a module that is not there
 * or cannot be loaded, a callback that is misspelled or missing, threads without handlers and the reverse.
 *
 * It loads what a start loads: the modules under `endpoints` here, as the configuration itself, and the modules of
 * handlers in a thread, one after the other, each for as long as a start would wait.
 */
export async function checkHandlers(
  config: Config,
  services: ThreadServices = { clock: systemClock, logger: silentLogger },
): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  const dispatchers = dispatchersOf(config);
  /** Several routes may have the same one. */
  const checked = new Set<Endpoint<unknown>>();

  const report = async (path: Path, check: () => Promise<void>) => {
    try {
      await check();
    } catch (error) {
      const [problem] = error instanceof ConfigError ? error.problems : [];
      faults.push({ path, message: (problem ?? toError(error)).message });
    }
  };
  const checkEndpoint = async (endpoint: Endpoint<unknown>, name: string, path: Path) => {
    if (checked.has(endpoint)) return;
    checked.add(endpoint);
    await report(path, async () => {
      const served = servedEndpoint(endpoint, name);
      await served.checkHandlers(dispatcherOf(served, dispatchers), services);
    });
  };
  const checkApplication = async ({ routes = [], endpoints = [] }: ApplicationConfig, at: Path): Promise<void> => {
    for (const [index, route] of routes.entries()) {
      const path = [...at, 'routes', index];
      if (route.endpoint) await checkEndpoint(route.endpoint, title(route), [...path, 'endpoint']);
      if (route.application) await checkApplication(route.application, [...path, 'application']);
    }
    const path = [...at, 'endpoints'];
    await report(path, async () => {
      for (const { endpoint, source } of await declaredEndpoints(endpoints, process.cwd()))
        await checkEndpoint(endpoint, source, path);
    });
  };
  await checkApplication(config, []);
  // What a module declares may be what a route is for.
  if (faults.length === 0) await report([], async () => void createRouter(await routerEntries(config, '')));
  return faults;
}

/** Which requests routes, declared endpoints and applications take, as at a start. */
async function routerEntries(
  { routes = [], endpoints = [], files, fetch }: ApplicationConfig,
  mount: string,
): Promise<RouteEntry<undefined>[]> {
  const entries: RouteEntry<undefined>[] = [];
  const add = (paths: string | readonly string[], { host, methods, name }: Partial<RouteConfig>) => {
    for (const path of [paths].flat())
      entries.push({
        pattern: mount + path,
        ...(host !== undefined && { host }),
        ...(methods && { methods }),
        name: name ?? (host ?? '') + mount + path,
        value: undefined,
      });
  };
  for (const route of routes)
    if (route.mount === undefined)
      add(route.path ?? (route.endpoint && servedEndpoint(route.endpoint, title(route)).patterns) ?? [], route);
    else entries.push(...(await routerEntries(route.application ?? {}, mount + route.mount.replace(/\/$/, ''))));
  for (const { endpoint, source } of await declaredEndpoints(endpoints, process.cwd()))
    add(servedEndpoint(endpoint, source).patterns, { name: source });
  if (files !== undefined || fetch !== undefined) add('/*', {});
  return entries;
}
