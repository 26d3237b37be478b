import type { IncomingMessage } from 'node:http';
import { sidPrefix } from '../../base/logger.ts';
import { nearestName } from '../../base/nearest-name.ts';
import type { FlowStep, StepFacts } from '../../gateway/flow-observer.ts';
import type { Target } from '../../gateway/route.ts';
import { peerAddressOf } from '../../http/peer.ts';
import type { Refusal } from '../../http/refusal.ts';
import type { LookedAt } from '../../session/identity/tracking.ts';
import type { ShownStanding } from '../../session/request/session-request.ts';
import { withoutSecrets } from '../log/secrets.ts';

/** What a line is made of. */
export interface StepAbout {
  readonly facts: StepFacts;
  readonly request: IncomingMessage;
  readonly kind: 'request' | 'handshake';
  readonly routeNames: () => readonly string[];
}

/** What a peer can make as long as it likes. */
const MAX_TEXT = 200;
const MAX_NEAR = 3;

/** In words what a step gave; undefined where there is nothing to say. Nothing of it opens anything. */
export function describeStep(step: FlowStep, { facts, request, kind }: StepAbout): string | undefined {
  const { head, route, authentication, shown, principal, observed } = facts;
  switch (step) {
    case 'head': {
      const what = kind === 'handshake' ? `${request.method} (WebSocket)` : request.method;
      const scheme = head!.isSecure ? 'https' : 'http';
      return `${what} ${target(request)} for ${scheme}://${head!.host || '(no host)'}, ${clientOf(facts)}`;
    }
    case 'entry':
      return 'not banned, and within the addresses and limits of the server';
    case 'route':
      return `${route!.name} → ${targetName(route!.target)}`;
    case 'policies': {
      const { origin } = head!.headers;
      const asked = origin === undefined ? '' : `, Origin ${cut(origin)}`;
      return `${route!.policies.length + (head!.isUpgrade ? route!.upgradePolicies.length : 0)} let it in${asked}`;
    }
    case 'preflight':
      return 'a question of CORS, answered here';
    case 'authenticate':
      if (!authentication) return 'the route asks for nobody';
      return shown ? `${cut(shown.name)} has shown who that is` : 'no credentials in the request; its session may know';
    case 'roles':
      if (!authentication) return undefined;
      return principal && `${cut(principal.name)}, roles ${list(principal.roles)}`;
    case 'own-policy':
      return route!.ownPolicy && "the application's own policy lets it in";
    case 'backend-session':
      return observed && `a session of the backend's own: ${observed.liveKey === undefined ? 'not live' : 'live'}`;
    case 'seat':
      return head!.isUpgrade ? 'there is room for the WebSocket' : undefined;
    default:
      return undefined;
  }
}

/** Why a step refuses. */
export function describeRefusal(step: FlowStep, refusal: Refusal, about: StepAbout): string {
  const { status, code, reason } = refusal;
  const text = `${status} ${code}: ${cut(reason)}`;
  if (step === 'head') return `${text}; ${requestOf(about.request)}`;
  if (step !== 'route' || status !== 404) return text;
  const near = nearest(about.facts.head?.path ?? '', about.routeNames());
  return near.length === 0 ? text : `${text}; nearest: ${near.join(', ')}`;
}

/** What can be said of a request whose head is refused. */
function requestOf(request: IncomingMessage): string {
  const { method, socket } = request;
  const asked = method ? `${cut(method)} ${target(request)}, ` : '';
  return `${asked}from ${peerAddressOf(socket) || 'a Unix socket'}`;
}

/** Where the session was looked for, and why it was not found. */
export function describeSession(
  places: readonly LookedAt[],
  judged: readonly (readonly [sid: string, standing: ShownStanding])[],
  { held, route }: StepFacts,
): string {
  if (route && (route.sessions === undefined || route.sessionMode === 'none')) return 'the route has no sessions';
  const session = held?.session;
  if (session !== undefined) {
    const isShown = judged.some(([sid]) => sid === session.id);
    return `${sidPrefix(session.id)}${isShown ? `, by ${placeOf(places)}` : ', new'}`;
  }
  const why = judged.map(([sid, standing]) => `${sidPrefix(sid)}: ${WHY[standing]}`);
  const looked = places.map(placeText);
  return `none: ${[...looked, ...why].join('; ')}`;
}

const WHY: Readonly<Record<ShownStanding, string>> = {
  gone: 'not in the store: it has ended, or its time was over',
  current: 'found, but not for this request: it is of another user, or two live ones were shown (see the security log)',
  rotated: 'its secret was replaced by time, and still works',
  superseded: 'its secret was replaced by a login a moment ago: another answer has the new one',
  dead: 'its secret was replaced long ago: an old copy of the cookie',
  wrong: 'its secret is not the one of this session',
};

function placeText({ kind, name, found }: LookedAt): string {
  const what = { cookie: 'cookie', header: 'header', url: 'path parameter' }[kind];
  if (found.length === 0) return `no ${what} ${name}`;
  return found.map(standing => `${what} ${name}: ${STANDING[standing]}`).join(', ');
}

const STANDING = {
  genuine: 'a genuine ticket',
  'not a ticket': 'not a ticket of Holdfast',
  'unknown key': 'signed with a key that this server does not have',
  'bad signature': 'its signature is not good (changed, or made for another path)',
} as const;

function placeOf(places: readonly LookedAt[]): string {
  const place = places.find(({ found }) => found.includes('genuine'));
  return place ? `${place.kind} ${place.name}` : 'its ticket';
}

/** Names of what goes to the backend, with the values of those that say who the client is. */
export function describeHeaders(headers: readonly string[], { held }: StepFacts): string {
  const sid = held?.session?.id;
  const told: string[] = [];
  const names: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    const value = headers[i + 1]!;
    if (sid !== undefined && value === sid) told.push(`${name}: ${sidPrefix(sid)}…`);
    else if (OPEN.has(name.toLowerCase())) told.push(`${name}: ${cut(value)}`);
    else names.push(name);
  }
  return [...told, ...(names.length > 0 ? [`and ${names.slice(0, 40).join(', ')}`] : [])].join('; ');
}

/** Which hold no secret, and say who the client is. Subprotocols are not among them: programs put tokens there. */
const OPEN: ReadonlySet<string> = new Set([
  ...['host', 'forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-proto'],
  ...['x-request-id', 'traceparent'],
]);

function clientOf({ head }: StepFacts): string {
  const { clientAddress, peerAddress, isPeerTrusted } = head!;
  if (clientAddress === peerAddress) return `from ${clientAddress || 'a Unix socket'}`;
  const believed = isPeerTrusted
    ? `as the trusted proxy ${peerAddress || '(Unix socket)'} says`
    : `peer ${peerAddress}`;
  return `from ${clientAddress || '(unknown)'}, ${believed}`;
}

function target({ url = '' }: IncomingMessage): string {
  return cut(withoutSecrets(url));
}

function targetName(target: Target): string {
  if (target.kind === 'upstream') return `upstream ${target.upstream.name}`;
  return target.kind === 'fetch' ? 'a handler' : target.kind;
}

function nearest(path: string, names: readonly string[]): string[] {
  const near = nearestName(path, names);
  const first = path.split('/')[1] ?? '';
  const alike = first === '' ? [] : names.filter(name => name.includes(`/${first}`));
  return [...new Set([...(near === undefined ? [] : [near]), ...alike])].slice(0, MAX_NEAR);
}

function list(names: readonly string[] | undefined): string {
  return names === undefined || names.length === 0 ? 'none' : names.slice(0, 10).map(cut).join(', ');
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
