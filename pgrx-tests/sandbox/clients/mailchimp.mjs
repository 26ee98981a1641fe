// Makes every Mailchimp call that the sandbox offers through Mailchimp's own client.
// Arguments: base URL, API key, list id.
import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import mailchimp from '@mailchimp/mailchimp_marketing'

const [base, apiKey, list] = process.argv.slice(2)
mailchimp.setConfig({ apiKey, server: 'us1' })
// The client knows https hosts only; this is its one place that says so.
mailchimp.basePath = `${base}/3.0`
const hash = (email) => createHash('md5').update(email.toLowerCase()).digest('hex')
const refused = async (status, title, call) => {
  const error = await call.then(() => assert.fail('was not refused'), (error) => error)
  assert.equal(error.status, status, String(error))
  assert.equal(JSON.parse(error.response.text).title, title)
}
const act = async (email, action, more = {}) => {
  const answer = await fetch(`${base}/_sandbox/mailchimp/members`, { method: 'POST', body: JSON.stringify({ email, action, ...more }) })
  assert.equal(answer.status, 200, await answer.text())
}

assert.equal((await mailchimp.ping.get()).health_status, "Everything's Chimpy!")
assert.equal((await mailchimp.root.getRoot()).role, 'owner')
assert.equal((await mailchimp.lists.getAllLists()).lists[0].id, list)
assert.equal((await mailchimp.lists.getList(list)).double_optin, false)

// Merge fields.
const field = await mailchimp.lists.addListMergeField(list, { tag: 'SCORE', name: 'Score', type: 'number' })
assert.equal((await mailchimp.lists.getListMergeFields(list)).total_items, 5)
assert.equal((await mailchimp.lists.getListMergeField(list, field.merge_id)).tag, 'SCORE')
assert.equal((await mailchimp.lists.updateListMergeField(list, field.merge_id, { name: 'Points' })).name, 'Points')
await refused(400, 'Invalid Resource', mailchimp.lists.addListMergeField(list, { tag: 'SCORE', name: 'Score', type: 'number' }))

// Single members.
const ada = await mailchimp.lists.addListMember(list, { email_address: 'Ada@example.com', status: 'subscribed', merge_fields: { FNAME: 'Ada', SCORE: 3 }, tags: ['crm'] })
assert.equal(ada.id, hash('ada@example.com'))
assert.equal(ada.merge_fields.SCORE, 3)
await refused(400, 'Member Exists', mailchimp.lists.addListMember(list, { email_address: 'ada@example.com', status: 'subscribed' }))
await refused(400, 'Invalid Resource', mailchimp.lists.addListMember(list, { email_address: 'fake@example.com', status: 'subscribed' }))
const bob = await mailchimp.lists.setListMember(list, hash('bob@example.com'), { email_address: 'bob@example.com', status_if_new: 'pending' })
assert.equal(bob.status, 'pending')
assert.equal((await mailchimp.lists.updateListMember(list, ada.id, { merge_fields: { LNAME: 'King' } })).merge_fields.LNAME, 'King')
assert.equal((await mailchimp.lists.getListMember(list, ada.id)).merge_fields.FNAME, 'Ada')
await refused(404, 'Resource Not Found', mailchimp.lists.getListMember(list, hash('nobody@example.com')))
await mailchimp.lists.updateListMemberTags(list, ada.id, { tags: [{ name: 'VIP', status: 'active' }, { name: 'CRM', status: 'inactive' }] })
assert.deepEqual((await mailchimp.lists.getListMemberTags(list, ada.id)).tags.map((tag) => tag.name), ['VIP'])
assert.equal((await mailchimp.lists.getListMembersInfo(list, { status: 'subscribed' })).total_items, 1)

// Bulk.
const bulk = await mailchimp.lists.batchListMembers(list, {
  members: [
    { email_address: 'ada@example.com', status_if_new: 'subscribed', merge_fields: { FNAME: 'A' } },
    { email_address: 'cy@example.com', status_if_new: 'subscribed' },
    { email_address: 'dan@example.com', status_if_new: 'subscribed' },
    { email_address: 'Dan@example.com', status_if_new: 'subscribed' },
    { email_address: 'nonsense', status_if_new: 'subscribed' },
  ],
  update_existing: true,
})
assert.deepEqual([bulk.total_created, bulk.total_updated, bulk.error_count], [1, 1, 3])

// Consent.
await act('cy@example.com', 'unsubscribe')
await refused(400, 'Member In Compliance State', mailchimp.lists.updateListMember(list, hash('cy@example.com'), { status: 'subscribed' }))
assert.equal((await mailchimp.lists.updateListMember(list, hash('cy@example.com'), { status: 'pending' })).status, 'pending')
await act('ada@example.com', 'change_email', { new_email: 'ada.king@example.com' })
await mailchimp.lists.deleteListMember(list, hash('ada.king@example.com'))
await refused(405, 'Method Not Allowed', mailchimp.lists.deleteListMember(list, hash('ada.king@example.com')))
await mailchimp.lists.deleteListMemberPermanent(list, hash('bob@example.com'))
await refused(400, 'Forgotten Email Not Subscribed', mailchimp.lists.setListMember(list, hash('bob@example.com'), { email_address: 'bob@example.com', status_if_new: 'subscribed' }))

// Campaign reports.
await act('cy@example.com', 'engage', { campaign: 'cb398d21d2', kind: 'click', url: 'https://example.com/' })
assert.equal((await mailchimp.campaigns.list()).campaigns[0].id, 'cb398d21d2')
assert.equal((await mailchimp.reports.getEmailActivityForCampaign('cb398d21d2')).emails[0].activity[0].action, 'click')

// Webhooks.
const hook = await mailchimp.lists.createListWebhook(list, {
  url: 'https://crm.example.com/second', events: { unsubscribe: true }, sources: { user: true, admin: true, api: true },
})
assert.equal((await mailchimp.lists.getListWebhooks(list)).total_items, 2)
assert.equal((await mailchimp.lists.getListWebhook(list, hook.id)).signing_secret, undefined)
await mailchimp.lists.updateListWebhook(list, hook.id, { events: { profile: false } })
await fetch(`${base}/_sandbox/webhooks`, { method: 'DELETE' })
await mailchimp.lists.setListMember(list, hash('eve@example.com'), { email_address: 'eve@example.com', status_if_new: 'subscribed' })
await mailchimp.lists.updateListMember(list, hash('eve@example.com'), { status: 'unsubscribed' })
const deliveries = await (await fetch(`${base}/_sandbox/webhooks/take`, { method: 'POST' })).json()
assert.equal(deliveries.length, 1)
const [, t, v1] = deliveries[0].headers['x-mailchimp-signature'].match(/^t=(\d+),v1=([0-9a-f]{64})$/)
assert.equal(createHmac('sha256', hook.signing_secret).update(`${t}.${deliveries[0].body}`).digest('hex'), v1)
assert.equal(new URLSearchParams(deliveries[0].body).get('data[email]'), 'eve@example.com')
await mailchimp.lists.deleteListWebhook(list, hook.id)
await mailchimp.lists.deleteListMergeField(list, field.merge_id)

mailchimp.setConfig({ apiKey: 'wrong-us1', server: 'us1' })
await refused(401, 'API Key Invalid', mailchimp.ping.get())
console.log('mailchimp ok')
