"""Canonical URIs of the code systems that several parts of Hyojun know, each written once.

Source: JP-CLINS 1.10.0 and JP Core 1.1.2 (code system tables of the implementation guides), HL7 FHIR R4.
"""

_JP = "http://jpfhir.jp/fhir"

DISEASE_KEY = "http://medis.or.jp/CodeSystem/master-disease-keyNumber"
"""病名管理番号"""
DISEASE_EXCHANGE = "http://medis.or.jp/CodeSystem/master-disease-exCode"
"""病名交換用コード"""
RECEIPT_DISEASE = f"{_JP}/core/mhlw/CodeSystem/masterB-disease"
ICD10 = f"{_JP}/core/mhlw/CodeSystem/ICD10-2013-full"
MODIFIER_KEY = "http://medis.or.jp/CodeSystem/master-disease-modKeyNumber"
"""修飾語管理番号"""
MODIFIER_EXCHANGE = "http://medis.or.jp/CodeSystem/master-disease-modExCode"
RECEIPT_MODIFIER = f"{_JP}/core/mhlw/CodeSystem/masterZ-disease-modifier"

YJ = "http://capstandard.jp/iyaku.info/CodeSystem/YJ-code"
HOT7 = "http://medis.or.jp/CodeSystem/master-HOT7"
HOT9 = "http://medis.or.jp/CodeSystem/master-HOT9"
GENERAL_NAME = f"{_JP}/core/mhlw/CodeSystem/MedicationGeneralOrderCode"
"""一般名処方マスタ"""
USAGE = f"{_JP}/core/mhlw/CodeSystem/MedicationUsage_ePrescription"
"""電子処方箋 用法マスタ"""
USAGE_JAMI = "http://jami.jp/CodeSystem/MedicationUsage"
"""JAMI 標準用法, 16 digits"""

JLAC10 = "http://medis.or.jp/CodeSystem/master-JLAC10-17digits"
CORE_LAB = f"{_JP}/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_CoreLabo_CS"
CORE_LAB_11 = f"{_JP}/clins/CodeSystem/JLAC11/JP_CLINS_ObsLabResult_CoreLabo_CS"
INFECTION_LAB = f"{_JP}/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_InfectionLabo_CS"
INFECTION_LAB_11 = f"{_JP}/clins/CodeSystem/JLAC11/JP_CLINS_ObsLabResult_InfectionLabo_CS"
LOCAL_LAB = f"{_JP}/clins/CodeSystem/JP_CLINS_ObsLabResult_LocalCode_CS"
"""施設固有検査コード: one URI for all facilities"""

JFAGY_FOOD = f"{_JP}/core/CodeSystem/JP_JfagyFoodAllergen_CS"
JFAGY_OTHER = f"{_JP}/core/CodeSystem/JP_JfagyNonFoodNonMedicationAllergen_CS"
JFAGY_PRODUCT = f"{_JP}/core/CodeSystem/YCM/JP_JfagyMedicationAllergen_CS"
JFAGY_INGREDIENT = f"{_JP}/core/CodeSystem/GCM/JP_JfagyMedicationAllergen_CS"

DEPARTMENT = "http://jami.jp/SS-MIX2/CodeSystem/ClinicalDepartment"
"""統一診療科コード"""
