"""Handlers of the probe stack."""

import base64
import json
import os
import urllib.request

import boto3

try:
    import shared_words
except ImportError:  # functions of the stack without the layer
    shared_words = None

STEP = 1


def work(event, context):
    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    key = event.get("detail", {}).get("object", {}).get("key", "none")
    table.put_item(Item={"pk": "run", "sk": key})
    return {"greeting": os.environ["GREETING"], "step": STEP, "word": shared_words.WORD, "key": key}


def route(event, context):
    body = (
        base64.b64decode(event["body"])
        if event.get("isBase64Encoded")
        else (event.get("body") or "").encode()
    )
    answer = {"path": event["pathParameters"]["proxy"], "bytes": len(body), "method": event["httpMethod"]}
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(answer)}


def custom(event, context):
    answer = {
        "Status": "SUCCESS",
        "PhysicalResourceId": event.get("PhysicalResourceId", "made"),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"Answer": event["ResourceProperties"]["Value"].upper()},
    }
    request = urllib.request.Request(
        event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT"
    )
    urllib.request.urlopen(request, timeout=5).read()
