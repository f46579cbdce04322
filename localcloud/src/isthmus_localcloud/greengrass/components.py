"""CreateComponentVersion and what reads, lists and deletes component versions."""

from typing import Any

from localemu.aws.api import RequestContext
from localemu.aws.connect import connect_to

from ..state import StateFolder
from . import recipes
from .lambda_import import import_function
from .store import LOCK, Component, Document, conflict, here, invalid, not_found


def order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split("+")[0].split("."))


def create_component_version(context: RequestContext, request: Document) -> Document:
    if ("inlineRecipe" in request) == ("lambdaFunction" in request):
        raise invalid("Exactly one of inlineRecipe and lambdaFunction must be given.")
    function = None
    if "lambdaFunction" in request:
        recipe, function = from_lambda(context, request["lambdaFunction"])
    else:
        recipe = recipes.parse_recipe(bytes(request["inlineRecipe"]))
        recipes.add_digests(
            recipe, connect_to(aws_access_key_id=context.account_id, region_name=context.region).s3
        )
    prefix = f"arn:aws:greengrass:{context.region}:{context.account_id}:components"
    arn = f"{prefix}:{recipe['ComponentName']}:versions:{recipe['ComponentVersion']}"
    with LOCK:
        components = here(context).components
        if arn in components:
            raise conflict(
                f"Component [{recipe['ComponentName']} : {recipe['ComponentVersion']}] already exists"
            )
        component = components[arn] = Component(arn, recipe, dict(request.get("tags", {})), function)
    names = ("arn", "componentName", "componentVersion", "creationTimestamp", "status")
    return {name: described(component)[name] for name in names}


def from_lambda(context: RequestContext, options: Document) -> tuple[Document, Document]:
    arn = options["lambdaArn"]
    folder = StateFolder.of_this_process().path / "greengrass"
    function, code = import_function(context, arn, folder)
    name = options.get("componentName") or function["name"]
    version = options.get("componentVersion") or f"{function['version']}.0.0"
    recipes.check_name(name)
    recipes.check_version(version)
    adapted = {**options, "componentLambdaParameters": options.get("componentLambdaParameters", {})}
    return recipes.lambda_recipe(name, version, arn, code, adapted), function


def find(context: RequestContext, arn: str) -> Component:
    component = here(context).components.get(arn)
    if component is None:
        raise not_found("component version", arn)
    return component


def described(component: Component) -> Document:
    recipe = component.recipe
    platforms = [
        {"name": str(key), "attributes": {k: str(v) for k, v in manifest.get("Platform", {}).items()}}
        for key, manifest in enumerate(recipe.get("Manifests", []))
    ]
    return {
        "arn": component.arn,
        "componentName": component.name,
        "componentVersion": component.version,
        "creationTimestamp": component.created,
        "publisher": recipe.get("ComponentPublisher", ""),
        "description": recipe.get("ComponentDescription", ""),
        "status": {
            "componentState": component.state,
            "message": "NONE",
            "errors": {},
            "vendorGuidance": "ACTIVE",
        },
        "platforms": platforms,
        "tags": component.tags,
    }


def describe_component(context: RequestContext, request: Document) -> Document:
    return described(find(context, request["arn"]))


def get_component(context: RequestContext, request: Document) -> Document:
    component, form = find(context, request["arn"]), request.get("recipeOutputFormat") or "JSON"
    text = recipes.as_text(component.recipe, form)
    return {"recipeOutputFormat": form, "recipe": text, "tags": component.tags}


def get_artifact(context: RequestContext, request: Document) -> Document:
    """A pre-signed URL, as AWS gives for artifacts it holds."""
    component = find(context, request["arn"])
    for artifact in recipes.artifacts_of(component.recipe):
        bucket, _, key = artifact["Uri"].removeprefix("s3://").partition("/")
        if artifact["Uri"].startswith("s3://") and key.rpartition("/")[2] == request["artifactName"]:
            s3 = connect_to(aws_access_key_id=context.account_id, region_name=context.region).s3
            url = s3.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=3600
            )
            return {"preSignedUrl": url}
    raise not_found("artifact", request["artifactName"])


def families(context: RequestContext) -> dict[str, list[Component]]:
    found: dict[str, list[Component]] = {}
    for component in here(context).components.values():
        found.setdefault(component.family_arn, []).append(component)
    return {arn: sorted(versions, key=lambda c: order(c.version)) for arn, versions in found.items()}


def list_components(context: RequestContext, request: Document) -> Document:
    if request.get("scope") == "PUBLIC":
        return {"components": []}
    return {"components": [family(arn, versions[-1]) for arn, versions in families(context).items()]}


def family(arn: str, latest: Component) -> Document:
    full = described(latest)
    names = ("arn", "componentVersion", "creationTimestamp", "description", "publisher", "platforms")
    return {"arn": arn, "componentName": latest.name, "latestVersion": {name: full[name] for name in names}}


def list_component_versions(context: RequestContext, request: Document) -> Document:
    versions = families(context).get(request["arn"])
    if versions is None:
        raise not_found("component", request["arn"])
    entries = [
        {"componentName": c.name, "componentVersion": c.version, "arn": c.arn} for c in reversed(versions)
    ]
    return {"componentVersions": entries}


def delete_component(context: RequestContext, request: Document) -> Document:
    find(context, request["arn"])
    with LOCK:
        here(context).components.pop(request["arn"], None)
    return {}


def tags_of(context: RequestContext, arn: str) -> dict[str, str]:
    region = here(context)
    if arn in region.components:
        return region.components[arn].tags
    deployment = region.deployments.get(arn.rpartition(":")[2])
    if deployment is None:
        raise not_found("resource", arn)
    tags: dict[str, str] = deployment.request.setdefault("tags", {})
    return tags


def list_tags(context: RequestContext, request: Document) -> Document:
    return {"tags": tags_of(context, request["resourceArn"])}


def tag_resource(context: RequestContext, request: Document) -> Document:
    tags_of(context, request["resourceArn"]).update(request["tags"])
    return {}


def untag_resource(context: RequestContext, request: Document) -> Document:
    tags: dict[str, Any] = tags_of(context, request["resourceArn"])
    for key in request["tagKeys"]:
        tags.pop(key, None)
    return {}
