import type { IncomingMessage, ServerResponse } from 'node:http';
import type send from 'send';
import type { Awaitable } from '../../base/awaitable.ts';
import { HeadersBefore } from '../../http/headers-before.ts';
import { RETRY_AFTER_S, type Refusal, refuse } from '../../http/refusal.ts';
import type { ResponseCommit } from '../../session/request/response-commit.ts';
import { writeFile } from './file-body.ts';

/** Answers with a file, or says why not. Rejects when the file system fails. */
export type FileServer = (
  request: IncomingMessage,
  response: ServerResponse,
  /** The normalised path without the route's prefix: `''`, or beginning with `/`. */
  pathBelowPrefix: string,
  commit?: ResponseCommit,
) => Promise<Refusal | undefined>;

/**
 * Serves the files of a folder: GET and HEAD, with `ETag`, conditional requests and byte ranges; `index.html` for a
 * folder.
 *
 * What lies outside the folder cannot be reached, except through symbolic links in it. Names that begin with a dot do
 * not exist, apart from `/.well-known/` (RFC 8615). Neither does a name with an escaped slash: it would reach a folder
 * by a path that the routes did not see. What is not there is refused with 404, another method with 405 (both
 * ERR_ROUTE_NOT_FOUND), a precondition or range that does not hold with 412 or 416 (ERR_HTTP_BAD_REQUEST).
 */
export function createFileServer(folder: string): FileServer {
  // Loaded here, so that a server without files does without it. Who asks before it is there waits for it.
  const loading = import('send');
  loading.catch(() => {});
  return async (request, response, pathBelowPrefix, commit) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refuse(405, 'ERR_ROUTE_NOT_FOUND', `files take GET and HEAD, not ${request.method}`, {
        headers: { Allow: 'GET, HEAD' },
      });
    }
    if (pathBelowPrefix === '') {
      const refusal = await commit?.beforeEnd();
      if (!refusal) redirectToFolder(request, response);
      return refusal;
    }
    if (/%2f/i.test(pathBelowPrefix)) return notFound('the path has an escaped slash');
    return transfer((await loading).default, folder, request, response, pathBelowPrefix, commit);
  };
}

function transfer(
  sendFile: typeof send,
  folder: string,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  commit: ResponseCommit | undefined,
): Promise<Refusal | undefined> {
  return new Promise((resolve, reject) => {
    const isWellKnown = path.startsWith('/.well-known/') && !path.includes('/.', 1);
    response.on('close', () => resolve(undefined));
    const before = new HeadersBefore(response);
    const withdraw = () => {
      before.restore();
      commit?.tellAgain();
    };
    const onError = (error: NodeJS.ErrnoException, status: number) => {
      // The length that was announced cannot be met any more.
      if (response.headersSent) return response.destroy();
      const contentRange = response.getHeader('Content-Range');
      withdraw();
      if (status === 412) resolve(refuse(412, 'ERR_HTTP_BAD_REQUEST', 'the file is not the one the client expects'));
      else if (status === 416) {
        const headers = { 'Content-Range': String(contentRange) };
        resolve(refuse(416, 'ERR_HTTP_BAD_REQUEST', 'the file is shorter than the range asked for', { headers }));
      } else if (status < 500 || isMissing(error)) resolve(notFound(error.message));
      else if (error.code === 'EMFILE' || error.code === 'ENFILE') resolve(noDescriptor());
      else reject(error);
    };
    const begin = async (committed: Awaitable<Refusal | undefined>, write: () => void) => {
      try {
        const refusal = await committed;
        if (!refusal) return write();
        withdraw();
        resolve(refusal);
      } catch (error) {
        onError(error as Error, 500);
      }
    };
    // It would end a HEAD itself, at once.
    const asked = { headers: request.headers, method: 'GET' } as IncomingMessage;
    const file = sendFile(asked, path, { root: folder, index: 'index.html', dotfiles: isWellKnown ? 'allow' : 'deny' });
    // Its own would keep the file open for as long as the client takes.
    file.stream = (found, { start = 0 }: { start?: number } = {}) => {
      if (request.method === 'HEAD') return void begin(commit?.beforeHead(), () => response.end());
      const length = Number(response.getHeader('Content-Length'));
      const onFailure = (error: NodeJS.ErrnoException) => onError(error, 500);
      // What the client has to learn goes on the head, which leaves when the file could be opened.
      void begin(
        commit?.commit(),
        () => void writeFile(found, start, length, response, () => commit?.tell()).catch(onFailure),
      );
    };
    file.notModified = () => {
      file.removeContentHeaderFields();
      response.statusCode = 304;
      void begin(commit?.beforeHead(), () => response.end());
    };
    file
      .on('directory', () => void begin(commit?.beforeHead(), () => redirectToFolder(request, response)))
      .on('error', (error: NodeJS.ErrnoException & { status: number }) => onError(error, error.status))
      .pipe(response);
  });
}

/** Since it was found; or we may not read it, which is nobody's business. */
function isMissing({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES' || code === 'EPERM';
}

function noDescriptor(): Refusal {
  const reason = 'no file can be opened, because no descriptor is free; raise the limit of open files (ulimit -n)';
  return refuse(503, 'ERR_SERVER_NO_DESCRIPTORS', reason, { headers: { 'Retry-After': RETRY_AFTER_S } });
}

function notFound(reason: string): Refusal {
  return refuse(404, 'ERR_ROUTE_NOT_FOUND', reason);
}

/** Relative, so that it is right under every prefix; `./`, so that a name with a colon is no scheme. */
function redirectToFolder(request: IncomingMessage, response: ServerResponse): void {
  const target = request.url ?? '/';
  const mark = target.indexOf('?');
  const path = mark === -1 ? target : target.slice(0, mark);
  const query = mark === -1 ? '' : target.slice(mark);
  response.writeHead(301, { Location: `./${path.slice(path.lastIndexOf('/') + 1)}/${query}`, 'Content-Length': 0 });
  response.end();
}
