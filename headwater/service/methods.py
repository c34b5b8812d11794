"""The methods that a server has: a method's name -> its service; what is not here was made up by a caller."""

from headwater.v1 import admin_pb2, classifier_pb2, extractor_pb2, fewshot_pb2

SERVICE_OF: dict[str, str] = {
    method.name: service.full_name
    for file in (extractor_pb2.DESCRIPTOR, classifier_pb2.DESCRIPTOR, fewshot_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
