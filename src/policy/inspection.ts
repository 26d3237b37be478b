import { parseSize, type Size } from '../base/size.ts';
import { compileExpression } from '../http/expression.ts';
import { type Refusal, refuse } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import { decodedBody, decodedMessage, isInspectable, percentDecoded } from './inspected-text.ts';
import type { Decision } from './policy.ts';
import type { SecurityEvents } from './security-events.ts';

/**
 * Where a rule looks. `headers`: each header but `Cookie`, `Authorization` and `Proxy-Authorization`; `header:NAME`: that
 * one, whichever it is. `messages`: whole messages that a WebSocket's client sends.
 */
export type InspectedPlace = 'path' | 'query' | 'headers' | `header:${string}` | 'body' | 'messages';

export interface InspectRule {
  /** For the log, where it stands in the place of what was found. */
  name: string;
  in: InspectedPlace | readonly InspectedPlace[];
  /** An expression that is searched for, with `i` for any case. One that may need more than linear time is an error. */
  match: string | RegExp;
  /**
   * `raw`: the text as it came. `decoded`: with what is escaped once: `%3C` in paths, queries, headers and forms, where `+`
   * is a space; `\u003c` in JSON and messages. Default: either may match.
   */
  view?: 'raw' | 'decoded';
  /** `deny`: 403, or 1008 on a socket. `log`: a line in the log. `ban`: as `deny`, and the jails hear of it. Default `deny`. */
  action?: 'deny' | 'log' | 'ban';
}

export interface InspectConfig {
  /** Tried in this order, up to the first that denies. */
  rules: readonly InspectRule[];
  /** With rules for `body`: so much of it is read before the target sees any of it. Default `64KiB`; -1 is refused. */
  maxBodySize?: Size;
  /**
   * With rules for `body`: one that is larger (413), compressed, or in a character set that is not read (415). `pass`: it goes on, and only
   * the first `maxBodySize` of what can be read was looked at. Default `refuse`.
   */
  otherBodies?: 'refuse' | 'pass';
}

const DEFAULT_MAX_BODY_SIZE = '64KiB';

/** What credentials and sessions are in: a rule has to name one to see it. */
const SECRET_HEADERS: ReadonlySet<string> = new Set(['cookie', 'authorization', 'proxy-authorization']);

/** Who sends what is inspected. */
export interface InspectedClient {
  readonly route: string;
  readonly address: string;
  readonly method: string;
  readonly path: string;
  /** A page of another site has made a browser send it. */
  readonly crossSite: true | undefined;
}

interface Rule {
  readonly name: string;
  readonly expression: RegExp;
  readonly views: readonly ('raw' | 'decoded')[];
  readonly action: 'deny' | 'log' | 'ban';
}

/** A text in the views that rules have of it, each made when it is first asked for. */
class Views {
  readonly raw: string;
  readonly #decode: (raw: string) => string;
  #decoded: string | undefined;

  constructor(raw: string, decode: (raw: string) => string) {
    this.raw = raw;
    this.#decode = decode;
  }

  get decoded(): string {
    this.#decoded ??= this.#decode(this.raw);
    return this.#decoded;
  }
}

/** What of a message is looked at when nothing else limits it. */
export const MOST_MESSAGE_BYTES: number = 1024 * 1024;

/**
 * Looks for what users have said no request should have in it, before anything sees it. Holds no state: each text is
 * judged by itself.
 *
 * @throws {TypeError} when a rule has an expression that is refused.
 */
export class Inspection {
  readonly maxBodyBytes: number;
  readonly readsBodies: boolean;
  readonly readsMessages: boolean;
  readonly #passesOthers: boolean;
  readonly #rules = new Map<string, Rule[]>();
  readonly #security: SecurityEvents;

  constructor(config: InspectConfig, security: SecurityEvents) {
    this.#security = security;
    this.maxBodyBytes = parseSize(config.maxBodySize ?? DEFAULT_MAX_BODY_SIZE);
    this.#passesOthers = config.otherBodies === 'pass';
    for (const { name, in: places, match, view, action = 'deny' } of config.rules) {
      const expression = compileExpression(match, 'search');
      const views = view ? [view] : (['raw', 'decoded'] as const);
      for (const place of [places].flat() as InspectedPlace[]) {
        const key = place.toLowerCase();
        const ofPlace = this.#rules.get(key);
        const rule = { name, expression, views, action };
        if (ofPlace) ofPlace.push(rule);
        else this.#rules.set(key, [rule]);
      }
    }
    this.readsBodies = this.#rules.has('body');
    this.readsMessages = this.#rules.has('messages');
  }

  /** Path, query and headers. */
  judgeHead(head: RequestHead, route: string): Decision {
    const client = clientOf(head, route);
    return (
      this.#judge('path', client, () => new Views(head.path, percentDecoded)) ??
      this.#judge('query', client, () => new Views(head.query, formDecoded)) ??
      this.#judgeHeaders(head, client)
    );
  }

  /** @returns undefined for one that may go on without being looked at, or whose beginning is to be looked at. */
  refuseOther(head: RequestHead, why: 'large' | 'unreadable'): Refusal | undefined {
    if (this.#passesOthers) return undefined;
    if (why === 'unreadable')
      return refuse(415, 'ERR_POLICY_INSPECTION', `a body that cannot be inspected (${codingOf(head)})`, {
        headers: { Connection: 'close', 'Accept-Encoding': 'identity' },
      });
    return refuse(413, 'ERR_POLICY_INSPECTION', `a body of more than ${this.maxBodyBytes} bytes cannot be inspected`, {
      headers: { Connection: 'close' },
    });
  }

  /** Can the text of a body be read by its headers? */
  isReadable({ headers }: RequestHead): boolean {
    return isInspectable(headers['content-type'], headers['content-encoding']);
  }

  judgeBody(body: Buffer, head: RequestHead, route: string): Decision {
    const type = head.headers['content-type'];
    return this.#judge('body', clientOf(head, route), () => new Views(body.toString(), raw => decodedBody(raw, type)));
  }

  /** For the messages of one WebSocket. It keeps nothing of the request. */
  messageJudge(head: RequestHead, route: string): (data: string | Buffer) => Decision {
    const client = clientOf(head, route);
    return data =>
      this.#judge(
        'messages',
        client,
        () => new Views(typeof data === 'string' ? data : data.toString(), decodedMessage),
      );
  }

  #judgeHeaders({ headers }: RequestHead, client: InspectedClient): Decision {
    const all = this.#rules.get('headers');
    for (const key of this.#rules.keys()) {
      if (!key.startsWith('header:')) continue;
      const value = headers[key.slice('header:'.length)];
      const refusal = value === undefined ? undefined : this.#judge(key, client, () => headerViews(value));
      if (refusal) return refusal;
    }
    if (!all) return undefined;
    for (const [name, value] of Object.entries(headers)) {
      if (value === undefined || SECRET_HEADERS.has(name)) continue;
      const refusal = this.#judge('headers', client, () => headerViews(value));
      if (refusal) return refusal;
    }
    return undefined;
  }

  #judge(place: string, client: InspectedClient, read: () => Views): Decision {
    const rules = this.#rules.get(place);
    if (!rules) return undefined;
    const text = read();
    for (const { name, expression, views, action } of rules) {
      if (!isFound(expression, views, text)) continue;
      const reason = `the rule ${JSON.stringify(name)} matches (${place})`;
      const event = action === 'ban' ? 'inspection-ban' : 'inspection-matched';
      this.#security.report({ event, ...client, rule: name, action, reason });
      if (action !== 'log')
        return refuse(403, 'ERR_POLICY_INSPECTION', reason, { body: 'This request is not allowed.\n' });
    }
    return undefined;
  }
}

function isFound(expression: RegExp, views: Rule['views'], text: Views): boolean {
  if (views.length === 1) return expression.test(text[views[0]!]);
  // Most texts have no escapes, and look the same both ways.
  return expression.test(text.raw) || (text.decoded !== text.raw && expression.test(text.decoded));
}

function headerViews(value: string | readonly string[]): Views {
  return new Views([value].flat().join(', '), percentDecoded);
}

function formDecoded(raw: string): string {
  return percentDecoded(raw.replaceAll('+', ' '));
}

function codingOf({ headers }: RequestHead): string {
  return headers['content-encoding'] === undefined ? 'its charset' : 'its Content-Encoding';
}

function clientOf({ clientAddress, method, path, headers }: RequestHead, route: string): InspectedClient {
  const crossSite = headers['sec-fetch-site'] === 'cross-site' ? true : undefined;
  // Sessions of applications stand in path parameters.
  return { route, address: clientAddress, method, path: path.replaceAll(/;[^/]*/g, ''), crossSite };
}
