import { dictionary } from '$lib/i18n/dictionary'

export const t = dictionary(
  {
    title: 'Sign in',
    lead: 'Show a key of this plant. It is exchanged for a session of twelve hours and is not kept in the browser.',
    shutOut: 'You were signed out. The server says:',
    ended: 'Your session has ended: the server was restarted, or the key is no longer in force. Sign in again to go on where you were.',
    key: 'API key',
    hint: 'It begins with tw_ or tw-',
    submit: 'Sign in',
    unknown: 'This key is not known here. Check it for missing characters; a revoked or expired key does not work either.',
    tooLong: 'This is no key: keys have less than {count} characters.',
    missing: 'Paste the key first.',
    none: 'No key yet? On the machine of the server, “tokenworks keys new NAME” makes one; while nobody administers the plant, its start prints a link that does.',
    without: 'Go on without a key',
  },
  {
    title: '登录',
    lead: '请输入此平台的密钥。密钥将换取十二小时的会话，不会保存在浏览器中。',
    shutOut: '您已被退出登录。服务器的说明：',
    ended: '您的会话已结束：服务器已重新启动，或密钥已失效。请重新登录，之后会回到原来的页面。',
    key: 'API 密钥',
    hint: '以 tw_ 或 tw- 开头',
    submit: '登录',
    unknown: '服务器不认识此密钥。请检查是否缺少字符；已吊销或过期的密钥也无法使用。',
    tooLong: '这不是密钥：密钥少于 {count} 个字符。',
    missing: '请先粘贴密钥。',
    none: '还没有密钥？在服务器本机运行 “tokenworks keys new NAME” 即可创建；尚无管理员时，服务器启动时会打印一个创建链接。',
    without: '不使用密钥继续',
  },
)
