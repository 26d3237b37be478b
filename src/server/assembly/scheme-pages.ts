import type { InheritedPolicy } from '../../config/inherited-policy.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import type { Constraints } from '../../gateway/routing/constraints.ts';
import type { Authentication } from '../../policy/auth/authentication.ts';
import type { Scheme, SchemePage, SignInPlace } from '../../policy/auth/scheme.ts';
import type { ComingSessions } from './session-contexts.ts';

/** Where users sign in, with what holds there. */
export interface PagePlace extends SignInPlace {
  readonly context: SessionContext;
  /** Of the server, or of the application whose sessions these are. */
  readonly policy: InheritedPolicy;
  /** Of which the transport holds for pages, too. */
  readonly constraints: Constraints[];
  /** Prefix of the application whose sessions these are. */
  readonly mount: string;
}

/** @param mount Prefix of the application whose sessions these are. Pages lie where browsers send the cookie. */
export function pagePlace(
  context: ComingSessions,
  mount: string,
  policy: InheritedPolicy,
  constraints: readonly Constraints[],
): PagePlace {
  const sessions = context.manager;
  const cookiePath = context.tracking.path;
  const prefix = cookiePath !== '/' && cookiePath.startsWith(`${mount}/`) ? cookiePath : mount;
  return { sessions, prefix, context, policy, constraints: [...constraints], mount };
}

interface PlacedPage {
  readonly page: SchemePage;
  readonly place: PagePlace;
  readonly host: string | undefined;
  readonly scheme: string;
}

/** The pages of the schemes that routes take: once for each place and host. */
export class SchemePages {
  readonly #pages = new Map<PagePlace, Map<Scheme, readonly SchemePage[]>>();
  readonly #hosts = new Map<readonly SchemePage[], Set<string | undefined>>();

  add({ schemes }: Authentication, place: PagePlace, host: string | undefined): void {
    const ofPlace = this.#pages.get(place) ?? new Map<Scheme, readonly SchemePage[]>();
    this.#pages.set(place, ofPlace);
    for (const scheme of schemes) {
      if (scheme.isShownByRequest || !scheme.pages) continue;
      const pages = ofPlace.get(scheme) ?? [...scheme.pages(place)];
      ofPlace.set(scheme, pages);
      const hosts = this.#hosts.get(pages) ?? new Set();
      this.#hosts.set(pages, hosts.add(host?.toLowerCase()));
    }
  }

  /** Names of the cookies that they set and read. */
  get ownCookies(): string[] {
    return [...this.#pages].flatMap(([place, ofPlace]) =>
      [...ofPlace.keys()].flatMap(scheme => (scheme.isShownByRequest ? [] : (scheme.ownCookies?.(place) ?? []))),
    );
  }

  placesOf(scheme: Scheme): PagePlace[] {
    return [...this.#pages].flatMap(([place, ofPlace]) => (ofPlace.has(scheme) ? [place] : []));
  }

  all(): PlacedPage[] {
    return [...this.#pages].flatMap(([place, ofPlace]) =>
      [...ofPlace].flatMap(([{ name: scheme }, pages]) =>
        [...this.#hosts.get(pages)!].flatMap(host => pages.map(page => ({ page, place, host, scheme }))),
      ),
    );
  }
}
