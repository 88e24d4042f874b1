package apns

import (
	"net/http"
	"testing"
)

// What is wrong with the topic or with us costs no device its registration, nor its push.
func TestAnswersAreReadByStatusAndReason(t *testing.T) {
	for _, tc := range []struct {
		status int
		reason string
		want   Outcome
	}{
		{200, "", Sent},
		{400, "BadDeviceToken", BadToken},
		{400, "DeviceTokenNotForTopic", BadToken},
		{400, "TopicDisallowed", Stop},
		{400, "BadTopic", Stop},
		{400, "MissingTopic", Stop},
		{400, "InvalidPushType", Stop},
		{400, "IdleTimeout", Later},
		{400, "SomethingNew", Refused},
		{403, "BadCertificate", Stop},
		{404, "BadPath", Later},
		{405, "MethodNotAllowed", Later},
		{410, "Unregistered", Unregistered},
		{413, "PayloadTooLarge", Later},
		{429, "TooManyRequests", Later},
		{500, "InternalServerError", Later},
		{503, "", Later},
	} {
		res := &http.Response{StatusCode: tc.status, Header: http.Header{}}
		if got := read(res, []byte(`{"reason":"`+tc.reason+`"}`)); got.Outcome != tc.want {
			t.Errorf("%d %s is %s, want %s", tc.status, tc.reason, got.Outcome, tc.want)
		}
	}
}
