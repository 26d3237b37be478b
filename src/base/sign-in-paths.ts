/** Paths of the pages of the scheme `form`, where it does not name them. */
export const FORM_PATHS = { login: '/login', check: '/j_security_check', logout: '/logout' } as const;

export type OidcPageName = 'login' | 'callback' | 'logout' | 'backchannelLogout';

/** Paths of the pages of a scheme `oidc`, where it does not name them. */
export function oidcPaths(scheme: string): Readonly<Record<OidcPageName, string>> {
  const at = (page: string) => `/oidc/${encodeURIComponent(scheme)}/${page}`;
  return {
    login: at('login'),
    callback: at('callback'),
    logout: at('logout'),
    backchannelLogout: at('backchannel-logout'),
  };
}

/** Where tickets for the WebSockets of a route are given out. */
export function ticketPath(pattern: string): string {
  return `${pattern.replace(/\/\*?$/, '')}/ticket`;
}
