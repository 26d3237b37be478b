/** A path and a line in a stack trace: of a frame, or above the source that could not be parsed. */
const PLACE = /(?:^|\(|\bat |file:\/\/)(\/[^\n()]+?):(\d+)/gm;
/** Of the sources, or of what was built of them: there it is one folder. */
const OURS = decodeURIComponent(new URL(import.meta.url.endsWith('.ts') ? '../' : './', import.meta.url).pathname);

/** Why a module of the application cannot be loaded, and the line where that was found out. */
export function loadFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const place = [...(error.stack ?? '').matchAll(PLACE)].find(([, path]) => !path!.startsWith(OURS));
  return place ? `${error.message} (${decoded(place[1]!)}:${place[2]})` : error.message;
}

/** A frame has the URL of its module. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path.replace(/\?version=\d+$/, ''));
  } catch {
    return path;
  }
}
