/** What the close frame of a socket says whose client was banned. */
export const BANNED = 'banned';
