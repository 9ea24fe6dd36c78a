/** An id in the least room that still tells requests apart: what it is of, and its end. */
export function shortId(id: string): string {
  const [kind = '', rest = ''] = [id.slice(0, id.indexOf('-') + 1), id.slice(id.indexOf('-') + 1)]
  return rest.length > 12 ? `${kind}…${rest.slice(-8)}` : id
}
