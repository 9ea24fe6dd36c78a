/** The names between braces in a message. */
export type Gaps<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}` ? Name | Gaps<Rest> : never

/** What fills the gaps of a message; nothing, where it has none. */
export type Fillings<Text extends string> = [Gaps<Text>] extends [never] ? [] : [Record<Gaps<Text>, string | number>]

/** Puts values into the gaps of a message; a gap without a value stays as it is. */
export function fill(text: string, values: Record<string, string | number> = {}): string {
  return text.replace(/\{(\w+)\}/g, (gap, name: string) => String(values[name] ?? gap))
}
