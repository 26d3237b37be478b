import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';

export interface Page {
  readonly url: URL;
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

const NAVIGATION = { accept: 'text/html', 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' };

/** As a browser: opens pages, follows redirects, and keeps cookies, by host as browsers do, whatever the port. */
export class CookieClient {
  readonly #cookies = new Map<string, Map<string, string>>();
  /** The URLs that it has opened. */
  readonly opened: string[] = [];

  cookieHeader(hostname: string): string {
    return [...(this.#cookies.get(hostname) ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  cookie(hostname: string, name: string): string | undefined {
    return this.#cookies.get(hostname)?.get(name);
  }

  forget(hostname: string, name?: string): void {
    if (name === undefined) this.#cookies.delete(hostname);
    else this.#cookies.get(hostname)?.delete(name);
  }

  /** One request, and no more. */
  async ask(
    url: string | URL,
    options: { form?: Record<string, string>; headers?: Record<string, string> } = {},
  ): Promise<Page> {
    const at = new URL(url);
    this.opened.push(at.href);
    const cookie = this.cookieHeader(at.hostname);
    const body = options.form && new URLSearchParams(options.form).toString();
    const request = (at.protocol === 'https:' ? https : http).request(at, {
      method: body === undefined ? 'GET' : 'POST',
      agent: false,
      rejectUnauthorized: false,
      headers: {
        ...NAVIGATION,
        ...(cookie !== '' && { cookie }),
        ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
        ...options.headers,
      },
    });
    request.end(body);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let text = '';
    response.setEncoding('utf8').on('data', chunk => {
      text += chunk;
    });
    await once(response, 'end');
    for (const line of response.headers['set-cookie'] ?? []) this.#keep(at.hostname, line);
    return { url: at, status: response.statusCode!, headers: response.headers, body: text };
  }

  /** Follows redirects, until a page or one of `stopAt`, which is not asked. */
  async open(url: string | URL, stopAt?: (url: URL) => boolean): Promise<Page> {
    let page = await this.ask(url);
    for (let i = 0; i < 20 && page.headers.location !== undefined; i++) {
      const next = new URL(page.headers.location, page.url);
      if (stopAt?.(next)) return { ...page, url: next };
      page = await this.ask(next);
    }
    return page;
  }

  #keep(hostname: string, line: string): void {
    const [pair = '', ...attributes] = line.split(';').map(part => part.trim());
    const name = pair.slice(0, pair.indexOf('='));
    const jar = this.#cookies.get(hostname) ?? new Map<string, string>();
    this.#cookies.set(hostname, jar);
    const expires = attributes.find(one => /^expires=/i.test(one))?.slice('expires='.length);
    const isOver = attributes.some(one => /^max-age=0$/i.test(one)) || (expires && Date.parse(expires) < Date.now());
    if (isOver) jar.delete(name);
    else jar.set(name, pair.slice(name.length + 1));
  }
}
