package pipeline

// What the tests in package pipeline_test use too.
var (
	Crowd     = crowd
	CrowdHost = crowdHost
	CrowdPort = crowdPort
)
