"""XML documents, written and read."""

from typing import Any
from xml.etree import ElementTree

from emulators.storage.errors import Refused

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def document(root: str, content: dict[str, Any]) -> bytes:
    """Return a document; a list in `content` becomes one element per entry."""
    element = ElementTree.Element(root, xmlns=NAMESPACE)
    _fill(element, content)
    return _written(element)


def error_document(refused: Refused) -> bytes:
    """Return a refusal in the XML API's form."""
    element = ElementTree.Element("Error")
    _fill(element, {"Code": refused.refusal.code, "Message": refused.refusal.message})
    if refused.details:
        _fill(element, {"Details": refused.details})
    _fill(element, refused.elements)
    return _written(element)


def namespace_free(element: ElementTree.Element) -> ElementTree.Element:
    """Return `element` with plain tags: clients send them with and without a namespace."""
    for each in element.iter():
        each.tag = each.tag.rpartition("}")[2]
    return element


def _fill(element: ElementTree.Element, content: dict[str, Any]) -> None:
    for tag, value in content.items():
        if isinstance(value, list):
            for entry in value:
                _fill(ElementTree.SubElement(element, tag), entry)
        else:
            ElementTree.SubElement(element, tag).text = value


def _written(element: ElementTree.Element) -> bytes:
    written: bytes = ElementTree.tostring(element, encoding="UTF-8", xml_declaration=True)
    return written
