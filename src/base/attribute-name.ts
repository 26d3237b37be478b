/** In UTF-16 code units. */
export const MAX_ATTRIBUTE_NAME = 256;

/** True for what an attribute of a session can be named. */
export function isAttributeName(name: unknown): name is string {
  return typeof name === 'string' && name !== '' && name.length <= MAX_ATTRIBUTE_NAME;
}

/** @throws {TypeError} when an attribute cannot be named so. */
export function checkAttributeName(name: unknown): void {
  if (!isAttributeName(name))
    throw new TypeError(`session attribute name must be a text of 1 to ${MAX_ATTRIBUTE_NAME} characters`);
}
