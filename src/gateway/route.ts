import type { PathTolerance } from '../http/path.ts';
import type { Authentication } from '../policy/auth/authentication.ts';
import type { SchemePage, SignInPlace } from '../policy/auth/scheme.ts';
import type { SocketTickets } from '../policy/auth/socket-tickets.ts';
import type { Cors } from '../policy/cors.ts';
import type { OwnPolicy } from '../policy/custom.ts';
import type { Inspection } from '../policy/inspection.ts';
import type { Limits } from '../policy/limits/limits.ts';
import type { LastingPolicy, Policy } from '../policy/policy.ts';
import type { ServedEndpoint } from '../websocket/endpoint.ts';
import type { PageRewriter } from './exchange/url-client.ts';
import type { SessionContext } from './held-session.ts';
import type { RelayLimits } from './relay/limits.ts';
import type { RouteDemands } from './route-demands.ts';
import type { Constraints } from './routing/constraints.ts';
import type { PathRewrite } from './routing/path-rewrite.ts';
import type { FetchHandler } from './targets/fetch.ts';
import type { FileServer } from './targets/files.ts';
import type { Upstream } from './upstream/upstream.ts';

/** Where a route leads. */
export type Target =
  | { readonly kind: 'endpoint'; readonly endpoint: ServedEndpoint<unknown> }
  | { readonly kind: 'fetch'; readonly handler: FetchHandler }
  | UpstreamTarget
  /** What is no file goes to `otherwise`, when there is one. */
  | { readonly kind: 'files'; readonly serve: FileServer; readonly otherwise?: FetchHandler | undefined }
  | { readonly kind: 'redirect'; readonly location: string }
  /** A page of a scheme of authentication. */
  | { readonly kind: 'page'; readonly page: SchemePage; readonly place: SignInPlace }
  | SocketTicketTarget;

/** Gives out tickets for the handshakes of another route. */
export interface SocketTicketTarget {
  readonly kind: 'socket-ticket';
  readonly tickets: SocketTickets;
  /** The name of that route. */
  readonly route: string;
}

export interface UpstreamTarget {
  readonly kind: 'upstream';
  readonly upstream: Upstream;
  /** Undefined: the route is not upgraded. */
  readonly relay: RelayLimits | undefined;
  /** Undefined: the backend knows the same paths. */
  readonly rewrite: PathRewrite | undefined;
  /** Puts tickets into the links of pages. Left out: they pass as they are. */
  readonly rewriter?: PageRewriter | undefined;
}

/**
 * When a request gets a session. `none`: never. `existing`: when it brings one. `auto`: also when it is a document
 * navigation. `create`: always.
 */
export type SessionMode = 'none' | 'existing' | 'auto' | 'create';

export interface Route {
  readonly name: string;
  /** By which a reload knows it: its name, where it has that alone. Default: its name. */
  readonly key?: string | undefined;
  /** Its methods, host and path, which no other route has. */
  readonly asked?: string | undefined;
  /** What it is made from: it is the same route as before a reload, unless that has changed. */
  readonly madeFrom?: unknown;
  readonly target: Target;
  /** Judged in order, before anything is looked up. */
  readonly policies: readonly Policy[];
  /** Judged in addition when the request asks for an upgrade. */
  readonly upgradePolicies: readonly Policy[];
  /** Those of both that its open WebSockets are held to again when they change: address, transport, origin. */
  readonly lastingPolicies?: readonly LastingPolicy[] | undefined;
  /** Who may use it. Default: everybody whom the policies let in. */
  readonly authentication?: Authentication | undefined;
  /** Where users sign in that its constraints ask for. Left out: it has no sessions. */
  readonly place?: SignInPlace | undefined;
  /** Those of the server and of the applications that it is in, the outermost first. */
  readonly constraints?: readonly Constraints[] | undefined;
  /** Handshakes may show one of these instead of what their headers would. */
  readonly tickets?: SocketTickets | undefined;
  /** Lets pages of other origins read its answers. Default: browsers let them read none. */
  readonly cors?: Cors | undefined;
  /** Its pages are for https, and those that are opened by http are sent there. Default false. */
  readonly upgradesInsecureRequests?: boolean | undefined;
  /** How much clients may do here, beside what the server says. Default: as much as they like. */
  readonly limits?: readonly Limits[] | undefined;
  /** Looks into bodies and messages. Its rules for heads are among the policies. */
  readonly inspection?: Inspection | undefined;
  /** The application's own policy, asked when the session is known. */
  readonly ownPolicy?: OwnPolicy | undefined;
  /** What the policies above come to, to be compared with those of another route. */
  readonly demands: RouteDemands;
  readonly sessions: SessionContext | undefined;
  readonly sessionMode: SessionMode;
  /** What its paths may have besides. Default: nothing. */
  readonly paths?: PathTolerance | undefined;
  /** A login may be sent here by a page of another site. */
  readonly isCrossSiteSignIn?: boolean | undefined;
  /** False: nothing that comes by it keeps a session alive. */
  readonly touch?: boolean | undefined;
  /** What lies apart in the session and is loaded with it. Default: nothing. */
  readonly attributes?: readonly string[] | undefined;
}
