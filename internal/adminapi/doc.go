// Package adminapi owns the conversation between the command line and the agent of the same host: its types, the
// handler, and the client. It is HTTP with JSON over a unix socket that only root may use.
//
//	GET /v1/info    200 Info
//	GET /healthz    200 {"status":"ok"}: the agent lives
//	GET /readyz     200 {"status":"ok"}, or 503 with the reason why containers can't be attached
//
// and, where the agent is an [Operator]:
//
//	GET    /v1/networks                200 {"networks": [NetworkDetail, …]}, a list
//	GET    /v1/networks/NAME           200 NetworkDetail, with its addresses
//	POST   /v1/networks                NetworkRequest, 200 NetworkDetail
//	DELETE /v1/networks/NAME           200
//	POST   /v1/networks/NAME/attach    200
//	DELETE /v1/hosts/NAME              200
//	GET    /v1/endpoints[?network=N]   200 {"endpoints": [Endpoint, …]}, a list in no order; with &detail=true
//	                                   {"endpoints": [Endpoint, …], "network": NetworkDetail}, or 404
//	GET    /v1/doctor                  200 {"checks": [Check, …]}
//	GET    /v1/support                 200 a tar.gz (where it is a [Supporter])
//
// and, where it is a [ClusterOperator]:
//
//	GET    /v1/cluster              200 ClusterStatus
//	POST   /v1/cluster/init         InitRequest, 200
//	POST   /v1/cluster/join         JoinRequest, 200 when it has begun
//	POST   /v1/cluster/leave        {"force": …}, 200 when it has begun
//	POST   /v1/cluster/lock         200
//	POST   /v1/cluster/unlock       200
//	GET    /v1/cluster/tokens       200 {"tokens": [Token, …]}
//	POST   /v1/cluster/tokens       TokenRequest, 200 Token with its text
//	DELETE /v1/cluster/tokens/ID    200
//
// and, where it is a [LayoutOperator]:
//
//	GET    /v1/cluster/layout       200 LayoutStatus
//	POST   /v1/cluster/layout       {"layout": …}, 200
//
// An agent that can't start yet answers the first three, the doctor and support; all else gets 503 with the cause.
//
// 404 says that there is no such thing, 409 that the cluster's state forbids it, 400 that it can never be.
// Every answer other than 200 is {"error": "…"}. Fields are added, never renamed, within one Schema: a client ignores
// fields that it does not know, and an older agent leaves out those that it does not know.
//
// A list is written as it is found: what goes wrong after the first item stands behind it as "error", and it is not whole.
//
// It imports the standard library only. What it needs of an agent it declares ([Agent]); it must not know any
// implementation.
package adminapi
